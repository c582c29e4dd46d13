"""How fast do shuffled batches come out of storage, against the peers and against the decoder alone?

Command:   python -m benchmarks.loader [--images FOLDER] [--size 256] [--encoding jpg] [--entrants NAME ...]
Entrants:  the modules of `benchmarks.entrants`, two threads or two workers each; `decode_only` is the limit.
Work:      the same samples, as shuffled batches of 64 gray images with gender and age, page cache warm; before the
           clock starts every entrant's samples, labels and gray values are compared.
Result:    benchmarks/results/loader-<encoding>-<size>.json and .png; README.md shows the table.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.lane import LIMIT, NAMES, check_equal, open_lanes, refuse_remainder, with_required
from benchmarks.rounds import draw_bars, print_table, print_targets, run_rounds, save_result
from benchmarks.samples import write_samples
from benchmarks.targets import loader_targets

WITHOUT_NPY = ("spdl_files",)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of films; synthetic hands without it")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--encoding", choices=["jpg", "png", "npy"], default="jpg")
    parser.add_argument("--num-samples", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entrants", nargs="+", choices=NAMES, default=NAMES, help="beside ours and the limit")
    args = parser.parse_args()
    refuse_remainder(args.num_samples)
    names = [name for name in with_required(args.entrants) if args.encoding != "npy" or name not in WITHOUT_NPY]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, kind = Path(name), {"size": args.size, "encoding": args.encoding}
        write_samples(folder / "samples", args.images, num_samples=args.num_samples, **kind)
        lanes = open_lanes(names, folder, stack, **kind)
        check_equal([lane for lane in lanes if lane.name != LIMIT])
        figures = run_rounds({lane.name: lane.images_per_second for lane in lanes}, num_rounds=args.rounds)
    print_table(figures, unit="images per second", reference=LIMIT)
    print_targets(loader_targets(figures, **kind))
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands"}
    title = f"{args.size} px {args.encoding}, two cores, {settings['images']}"
    result = f"loader-{args.encoding}-{args.size}"
    print(draw_bars(result, figures, title=title, unit="images per second"))
    print(save_result(result, {"settings": settings, "images_per_second": figures}))


if __name__ == "__main__":
    main()
