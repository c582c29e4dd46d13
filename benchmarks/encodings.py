"""Which encoding should be the default: what does JPEG at quality 95 cost in months, and what does it save?

Command:   python -m benchmarks.encodings [--labels FILE --images FOLDER] [--size 64] [--num-films 2000] [--seeds 3]
Compared:  jpg q95, png and npy of the same films (without --labels: synthetic hands), in the same split and order.
Method:    for each encoding: bytes per film; images per second from the stream with two threads, median of five
           epochs; the validation error of `wds-bone train` after a short schedule, once per seed. One training counts
           for both png and npy, because they hold the same pixels (which is checked): two trainings would differ only
           in their shuffle, as two seeds do.
Machine:   two CPU cores; trains on a GPU if there is one.
Result:    benchmarks/results/encodings.json; EXPERIMENTS.md draws the conclusion.
"""

import argparse
import contextlib
import csv
import hashlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.rounds import run_rounds, save_result
from wds_bone import BoneAgeStream
from wds_bone.make_shards import main as make_shards
from wds_bone.shards.manifest import read_manifest
from wds_bone.train import main as train

ENCODINGS = ("jpg", "png", "npy")
TRAINED = {"jpg": "jpg", "png": "png and npy"}


def copy_first_rows(table: Path, num_films: int, out: Path) -> Path:
    """Write the header and the first `num_films` rows of a label table to `out`, and return `out`."""
    with table.open(newline="") as old, out.open("w", newline="") as new:
        rows = csv.writer(new)
        rows.writerows(row for number, row in enumerate(csv.reader(old)) if number <= num_films)
    return out


def write_sets(args: argparse.Namespace, folder: Path) -> None:
    """Write the same films once in each encoding, into `folder/<encoding>`."""
    inputs = ["--size", str(args.size), "--val-fraction", "0.25"]
    if args.labels is None:
        inputs += ["--synthetic", str(args.num_films)]
    else:
        table = copy_first_rows(args.labels, args.num_films, folder / "labels.csv")
        inputs += ["--labels", str(table), "--images", str(args.images)]
    for encoding in ENCODINGS:
        assert make_shards([*inputs, "--encoding", encoding, "--out", str(folder / encoding)]) == 0


def bytes_per_film(shards: Path) -> float:
    """Return the size of the training shards divided by the number of samples."""
    split = read_manifest(shards / "manifest.json").splits["train"]
    return sum(shard.shard_bytes for shard in split.shards) / split.num_samples


def stream_speed(shards: Path) -> float:
    """Return images per second over one epoch."""
    with BoneAgeStream(shards, split="train", batch_size=64, threads=2) as stream:
        start = time.perf_counter()
        for _ in stream:
            pass
        return stream.num_samples / (time.perf_counter() - start)


def pixels_digest(shards: Path) -> str:
    """Return the SHA-256 digest of all training images, in the order of the shards."""
    digest = hashlib.sha256()
    with BoneAgeStream(shards, split="train", shuffle=False, threads=2) as stream:
        for batch in stream:
            digest.update(batch.image.numpy().tobytes())
    return digest.hexdigest()


def validation_error(shards: Path, out: Path, *, seed: int, epochs: int, batch_size: int) -> float:
    """Return the validation MAE in months at the end of a short training."""
    settings = ["--epochs", str(epochs), "--batch-size", str(batch_size), "--seed", str(seed)]
    with contextlib.redirect_stderr(io.StringIO()):
        code = train(["--train", str(shards / "manifest.json"), "--out", str(out), "--model", "resnet18", *settings])
    assert code == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return float([line["val_mae_months"] for line in lines if "val_mae_months" in line][-1])


def validation_errors(args: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return the validation MAE in months of each trained encoding, one value per seed."""
    errors: dict[str, list[float]] = {encoding: [] for encoding in TRAINED}
    for seed in range(args.seeds):
        for encoding in TRAINED:
            out = folder / f"run-{encoding}-{seed}"
            settings = {"seed": seed, "epochs": args.epochs, "batch_size": args.batch_size}
            errors[encoding].append(validation_error(folder / encoding, out, **settings))
    return errors


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, metavar="FILE", help="label table (default: synthetic hands)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="folder of films, required with --labels")
    numbers = {
        "--size": (64, "side of the images in pixels"),
        "--num-films": (2000, "number of films, training and validation together"),
        "--seeds": (3, "number of trainings per encoding"),
        "--epochs": (6, "epochs per training"),
        "--batch-size": (32, "samples per step"),
    }
    for name, (default, text) in numbers.items():
        parser.add_argument(name, type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sets(args, folder)
        runs = {encoding: lambda encoding=encoding: stream_speed(folder / encoding) for encoding in ENCODINGS}
        speeds = run_rounds(runs, num_rounds=5)
        assert pixels_digest(folder / "png") == pixels_digest(folder / "npy")
        errors = validation_errors(args, folder)
        sizes = {encoding: bytes_per_film(folder / encoding) for encoding in ENCODINGS}
    for encoding in ENCODINGS:
        print(f"{encoding}: {sizes[encoding]:9,.0f} bytes  {statistics.median(speeds[encoding]):9,.0f} images/s")
    for encoding, names in TRAINED.items():
        mean, deviation = statistics.mean(errors[encoding]), statistics.stdev(errors[encoding])
        print(f"{names}: MAE {mean:.2f} +- {deviation:.2f} months over {args.seeds} seeds")
    settings = {name: value for name, value in vars(args).items() if name not in ("labels", "images")}
    contents = {"settings": settings, "bytes_per_film": sizes, "images_per_second": speeds, "val_mae_months": errors}
    print(save_result("encodings", contents))


if __name__ == "__main__":
    main()
