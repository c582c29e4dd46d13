"""How fast do shuffled batches come from storage, compared with other loaders and with the decoder alone?

Command:   python -m benchmarks.loader [--images FOLDER] [--size 256] [--encoding jpg] [--loaders NAME ...]
Compared:  the modules of `benchmarks.loaders`, with two threads or two workers each; `decode_only` is the upper limit.
Method:    shuffled batches of 64 gray images with gender and age, the same samples for every loader, warm page cache.
           Before anything is timed, the samples, labels and gray values of all loaders are compared.
Machine:   two CPU cores.
Result:    benchmarks/results/loader-<encoding>-<size>.json and .png; README.md shows the table.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.loader_process import (
    LIMIT,
    LOADER_NAMES,
    check_equal,
    open_loaders,
    require_whole_batches,
    with_required,
)
from benchmarks.rounds import add_rounds_argument, draw_bars, print_table, print_targets, run_rounds, save_result
from benchmarks.samples import add_sample_arguments, write_samples
from benchmarks.targets import loader_targets

WITHOUT_NPY = ("spdl_files",)


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sample_arguments(parser, size=256, num_samples=8192, encoding="jpg")
    add_rounds_argument(parser)
    parser.add_argument(
        "--loaders",
        nargs="+",
        choices=LOADER_NAMES,
        default=LOADER_NAMES,
        metavar="NAME",
        help=f"loaders to compare with ours and the decoder alone, from {', '.join(LOADER_NAMES)} (default: all)",
    )
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    require_whole_batches(args.num_samples)
    names = [name for name in with_required(args.loaders) if args.encoding != "npy" or name not in WITHOUT_NPY]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, kind = Path(name), {"size": args.size, "encoding": args.encoding}
        write_samples(folder / "samples", args.images, num_samples=args.num_samples, **kind)
        loaders = open_loaders(names, folder, stack, **kind)
        check_equal([loader for loader in loaders if loader.name != LIMIT])
        speeds = run_rounds({loader.name: loader.images_per_second for loader in loaders}, num_rounds=args.rounds)
    print_table(speeds, unit="images per second", reference=LIMIT)
    print_targets(loader_targets(speeds, **kind))
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands"}
    title = f"{args.size} px {args.encoding}, two cores, {settings['images']}"
    result = f"loader-{args.encoding}-{args.size}"
    print(draw_bars(result, speeds, title=title, unit="images per second"))
    print(save_result(result, {"settings": settings, "images_per_second": speeds}))


if __name__ == "__main__":
    main()
