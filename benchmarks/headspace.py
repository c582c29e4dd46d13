"""How much faster would training be if loading batches took no time?

Command:   python -m benchmarks.headspace [--shards FOLDER] [--model convnext_tiny] [--image-size 512] [--device cuda]
           [--compile]
Compared:  training steps on batches from the stream; the same steps on one batch that stays on the device, which is
           the upper limit for any loader; on a CPU, also a plain script with all images in RAM.
Method:    `wds_bone.learn.loop.train_step`, --steps steps per round; a GPU is never more than one step behind, as in
           training. Also the fraction of time spent waiting.
Machine:   a CPU, or one CUDA GPU.
Result:    headspace-<model>-<size>-<device>[-compiled].json. Without --shards it draws synthetic hands.
"""

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import torch

from benchmarks.plain_script import plain_steps
from benchmarks.rounds import RESULTS, add_rounds_argument, print_table, print_targets, run_rounds, save_result
from benchmarks.targets import as_json, headspace_targets
from wds_bone.distributed.ranks import Ranks
from wds_bone.distributed.resources import Stopwatch, peak_bytes
from wds_bone.learn.assemble import assemble_run, open_streams
from wds_bone.learn.finite_check import PendingLoss, check_losses
from wds_bone.learn.loop import train_step
from wds_bone.learn.run import Run
from wds_bone.learn.settings import TrainConfig, make_recipe, resolve_config
from wds_bone.make_shards import main as make_shards
from wds_bone.stream.batch import Batch

SETTINGS = ("model", "image_size", "batch_size", "device", "precision", "compile")
STREAM, CEILING, PLAIN = "stream", "one cached batch", "plain script, all in RAM"


def timed_steps(run: Run, batches: Iterator[Batch], *, num_steps: int, waits: list[float]) -> Callable[[], float]:
    """Return a function that runs `num_steps` steps and returns images per second.

    Each call also appends the fraction of time spent waiting for batches to `waits`.
    """

    def measure() -> float:
        stopwatch, losses, start = Stopwatch(), deque[PendingLoss](), time.perf_counter()
        for step in range(num_steps):
            with stopwatch.waiting():
                batch = next(batches)
            losses.append(train_step(run.learner, batch, step=step, recipe=run.recipe, ranks=run.ranks))
            check_losses(losses, run.train_stream.step_keys, leave=1 if batch.image.is_cuda else 0)
        check_losses(losses, run.train_stream.step_keys)
        waits.append(stopwatch.lap()[1])
        return num_steps * run.recipe.global_batch_size / (time.perf_counter() - start)

    return measure


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shards", type=Path, metavar="FOLDER", help="folder with the splits train and val (default: synthetic hands)"
    )
    parser.add_argument("--model", default="auto", metavar="NAME", help="name of the model (default: %(default)s)")
    parser.add_argument(
        "--image-size",
        type=int,
        default=128,
        metavar="PIXELS",
        help="longer side of the input in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="samples per step (default: %(default)s)"
    )
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="device to train on (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="(default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="compile the model (default: off)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="folder of the result")
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="steps per round (default: %(default)s)")
    add_rounds_argument(parser)
    return parser.parse_args()


def train_config(args: argparse.Namespace, shards: Path) -> TrainConfig:
    """Return the resolved training settings."""
    return resolve_config(
        TrainConfig(
            train=(str(shards / "manifest.json"),),
            model=args.model,
            image_size=args.image_size,
            batch_size=args.batch_size,
            device=args.device,
            precision=args.precision,
            compile=args.compile,
        )
    )


def measure_speeds(
    config: TrainConfig, *, num_steps: int, num_rounds: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Return the images per second of each candidate, and the fractions of time the stream's steps waited."""
    ranks = Ranks(device=torch.device(config.device))
    streams = open_streams(config, ranks)
    with streams[0] as train, streams[1] as val:
        recipe = make_recipe(config, num_samples=train.num_samples, world_size=1)
        run = assemble_run(recipe, streams, {}, ranks=ranks, is_new=True)
        batches, waits = train.endless(), list[float]()
        cached = repeat(next(batches))
        runs = {
            STREAM: timed_steps(run, batches, num_steps=num_steps, waits=waits),
            CEILING: timed_steps(run, cached, num_steps=num_steps, waits=[]),
        }
        if config.device == "cpu":
            runs[PLAIN] = plain_steps(
                val,
                model=config.model,
                image_size=config.image_size,
                bf16=config.precision == "bf16",
                batch_size=config.batch_size,
                num_steps=num_steps,
            )
        speeds = run_rounds(runs, num_rounds=num_rounds)
    return speeds, waits[1:]  # without the warm-up


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shards = args.shards or Path(folder) / "shards"
        if args.shards is None:
            make_shards(["--out", str(shards), "--synthetic", "2000", "--size", str(args.image_size)])
        config = train_config(args, shards)
        speeds, waits = measure_speeds(config, num_steps=args.steps, num_rounds=args.rounds)
    print_table(speeds, unit="images per second", reference=CEILING)
    targets = headspace_targets(speeds, wait_fraction=statistics.median(waits))
    print_targets(targets)
    contents = {
        "settings": {name: getattr(config, name) for name in SETTINGS},
        "images_per_second": speeds,
        "wait_fractions": waits,
        "peak_bytes": peak_bytes(torch.device(config.device)),
        "targets": [as_json(target) for target in targets],
    }
    compiled = "-compiled" if config.compile else ""
    name = f"headspace-{config.model}-{config.image_size}-{config.device}{compiled}"
    print(save_result(name, contents, folder=args.out))


if __name__ == "__main__":
    main()
