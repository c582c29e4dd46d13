"""MosaicML's MDSWriter in a loop, with the work that `benchmarks.writer` gives to every entrant that uses Pillow.

In a program of its own, because its requirements clash with those of wds_bone. What it imports is not timed.

    python -m benchmarks.mosaic_writer OUT SIZE < films.json      prints the seconds that writing took
"""

import json
import sys
import time
from pathlib import Path

from streaming import MDSWriter

from benchmarks.writer import Film, pillow_sample


def main() -> None:
    """Write the films that standard input names, one by one, 64 MiB to a shard."""
    out, size = sys.argv[1], int(sys.argv[2])
    films = [Film(Path(path), gender, age_months) for path, gender, age_months in json.load(sys.stdin)]
    columns = {"image": "bytes", "age_months": "int", "gender": "str"}
    pillow_sample(films[0], size)  # Pillow imports its formats when it first needs them
    start = time.perf_counter()
    with MDSWriter(out=out, columns=columns) as shards:
        for film in films:
            shards.write(pillow_sample(film, size))
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
