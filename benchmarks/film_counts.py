"""How does the error fall with the number of films?

Command:   python -m benchmarks.film_counts --shards PATH --labels FILE --images FOLDER [--counts 250 1000 4000]
           [--runs runs/film-counts] [--set KEY=VALUE...]
Compared:  trainings on the first of the training films of a set, in a random order, and on all of them. A smaller part
           is contained in each larger one.
Method:    `wds-bone make-shards` for each part, from the label table and the films that the set was made from, in the
           format of its images, then `wds-bone train` with the settings of the preset `quick`, but at
           most 100 epochs and, below that, the same number of steps for all parts. The errors are those of the best
           epoch on the validation films of the set, which is one of more epochs for a smaller part. A run that is
           finished is not repeated, and one that was stopped continues.
Machine:   CPU.
Result:    benchmarks/results/film-counts.json and docs/film-counts.png; EXPERIMENTS.md draws the conclusion.
"""

import argparse
import csv
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from benchmarks.levers import measure, train
from benchmarks.rounds import save_result
from wds_bone import BoneAgeStream
from wds_bone.commands import TRAIN
from wds_bone.config_file import parse_assignments
from wds_bone.figure_style import INK, SCREEN_DOTS_PER_INCH, figure_as_png, label_axes, new_figure
from wds_bone.learn.settings import TrainConfig
from wds_bone.make_shards import main as make_shards
from wds_bone.shards.manifest import ImageFormat, read_manifest

ORDER_SEED, MAX_EPOCHS = 0, 100
PRESET = "quick"
FIGURE = Path(__file__).parents[1] / "docs" / "film-counts.png"


def train_on(
    count: int, keys: list[str], args: argparse.Namespace, settings: dict[str, Any], image_format: ImageFormat
) -> dict[str, Any]:
    """Train on the first films of `keys`, if that has not been done, and return the errors."""
    folder, options = args.runs / str(count), format_options(image_format)
    shards = folder / "shards"
    if not (shards / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        labels = folder / "labels.csv"
        write_rows(args.labels, set(keys[:count]), labels)
        command = ["--labels", str(labels), "--images", str(args.images), "--out", str(shards), "--split", "train"]
        if make_shards([*command, *options]) != 0:
            raise SystemExit(f"{shards}: the shards were not written")
    if read_manifest(shards / "manifest.json").image != image_format:
        raise SystemExit(
            f"{shards}: the images are not in the format of {args.shards}; delete it, or use another --runs"
        )
    epochs = min(MAX_EPOCHS, round(settings["epochs"] * len(keys) / count))
    train(folder, str(shards), settings | {"epochs": epochs, "val": [args.shards]})
    return {"num_films": count, "epochs": epochs, **measure(folder)}


def format_options(image_format: ImageFormat) -> list[str]:
    """Return the options of `wds-bone make-shards` that write images of a format.

    Raises:
        SystemExit: if there are none.
    """
    if image_format.height != image_format.width or image_format.fit != "letterbox":
        raise SystemExit(
            f"parts of a set of {image_format} cannot be written; use one that `wds-bone make-shards` wrote"
        )
    options = ["--size", str(image_format.height)]
    if image_format.encoding is not None:
        options += ["--encoding", image_format.encoding]
    if image_format.quality is not None:
        options += ["--quality", str(image_format.quality)]
    if image_format.stretch is not None:
        options += ["--stretch", *map(str, image_format.stretch)]
    return options


def write_rows(table: Path, keys: set[str], path: Path) -> None:
    """Write the rows of a label table whose first cell is one of `keys`, below its header."""
    with table.open(newline="") as source, path.open("w", newline="") as target:
        rows = csv.reader(source)
        writer = csv.writer(target)
        writer.writerow(next(rows))
        writer.writerows(row for row in rows if row and row[0] in keys)


def draw_errors(rows: list[dict[str, Any]]) -> Figure:
    """Draw the errors and their 95 % intervals against the number of films, on logarithmic scales."""
    counts, errors = ([row[name] for row in rows] for name in ("num_films", "mae_months"))
    low, high = np.transpose([row["mae_interval_months"] for row in rows])
    figure, (axes,) = new_figure("Error and number of films", "validation MAE, 95 % interval")
    axes.errorbar(counts, errors, yerr=(errors - low, high - errors), color=INK, marker="o", capsize=3, linewidth=1.2)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    for count, error in zip(counts, errors, strict=True):
        axes.annotate(f"{error:.1f}", (count, error), xytext=(6, 6), textcoords="offset points", fontsize=8.5)
    label_axes(axes, x="training films", y="MAE in months")
    return figure


def parse_arguments() -> argparse.Namespace:
    """Return the options of this program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True, metavar="PATH", help="the set of all films, with train and val")
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="its table; the first column is id")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="its films")
    parser.add_argument("--counts", type=int, nargs="+", default=[250, 1000, 4000], metavar="N")
    parser.add_argument("--runs", type=Path, default=Path("runs/film-counts"), metavar="FOLDER")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings that change the preset")
    return parser.parse_args()


def main() -> None:
    """Train what is not trained yet, print the errors, and draw them."""
    args = parse_arguments()
    assert TRAIN.presets is not None
    preset = tomllib.loads((TRAIN.presets / f"{PRESET}.toml").read_text())
    settings = preset | parse_assignments(TrainConfig, args.set)
    with BoneAgeStream(args.shards, split="train", batch_size=1, shuffle=False) as stream:
        keys = sorted(stream.keys())
        image_format = stream.image_format
    if max(args.counts) >= len(keys):
        raise SystemExit(
            f"--counts {max(args.counts)}: the set has {len(keys):,} training films, which are used in any case"
        )
    np.random.default_rng(ORDER_SEED).shuffle(keys)
    rows = [train_on(count, keys, args, settings, image_format) for count in (*args.counts, len(keys))]
    for row in rows:
        low, high = row["mae_interval_months"]
        print(f"{row['num_films']:7,} films  {row['mae_months']:5.2f} months ({low:.2f} to {high:.2f})")
    print(save_result("film-counts", {"settings": settings, "rows": rows}))
    FIGURE.write_bytes(figure_as_png(draw_errors(rows), dots_per_inch=SCREEN_DOTS_PER_INCH))


if __name__ == "__main__":
    main()
