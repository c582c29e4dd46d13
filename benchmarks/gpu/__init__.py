"""What only a GPU shows, in four parts of at most eight minutes: `python -m benchmarks.gpu`, or `make gpu`.

    tests       do the tests that need a GPU pass?
    headspace   how much faster would training be if loading batches took no time, for three models?
    loader      how many images per second does the loader deliver with 1 to 16 threads?
    train       does a training of some minutes learn, and does its evaluation agree?

Each part is a module with a `main` that runs in a process of its own, and writes what it has measured so far to
`gpu-<part>-<device>.json`. `benchmarks.gpu.carry` collects the packages and the films that a machine without a network
needs. With `--device cpu`, small sizes try everything out. docs/gpu.md describes it.
"""
