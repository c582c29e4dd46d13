"""How much faster would training be if batches cost nothing?

Command:   python -m benchmarks.headspace [--shards FOLDER] [--model convnext_tiny] [--image-size 512] [--device cuda]
Entrants:  the training step on real batches from the stream, and the same step on one batch that stays on the device:
           the ceiling of everything that a faster loader could bring. On a CPU also a plain script with all in RAM.
Work:      `wds_bone.learn.loop.train_step`, so many steps a turn; the share of time spent waiting for batches.
Result:    benchmarks/results/headspace-<model>-<size>-<device>.json. Without --shards it draws synthetic hands.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import torch

from benchmarks.plain_script import plain_steps
from benchmarks.rounds import print_table, print_targets, run_rounds, save_result
from benchmarks.targets import headspace_targets
from wds_bone.distributed.ranks import Ranks
from wds_bone.distributed.resources import Stopwatch
from wds_bone.learn.assemble import assemble_run, open_stream, settle_config
from wds_bone.learn.loop import train_step
from wds_bone.learn.run import Run
from wds_bone.learn.settings import TrainConfig, resolve_config
from wds_bone.make_shards import main as make_shards
from wds_bone.stream.batch import Batch

STREAM, CEILING, PLAIN = "stream", "one cached batch", "plain script, all in RAM"


def timed_steps(run: Run, batches: Iterator[Batch], *, num_steps: int, waits: list[float]) -> Callable[[], float]:
    """Return a run that gives images per second over `num_steps` steps, and notes the share of time spent waiting."""

    def measure() -> float:
        stopwatch, start = Stopwatch(), time.perf_counter()
        for step in range(num_steps):
            with stopwatch.waiting():
                batch = next(batches)
            train_step(run.learner, batch, step=step, recipe=run.recipe, ranks=run.ranks)
        if batch.image.is_cuda:
            torch.cuda.synchronize()
        waits.append(stopwatch.lap()[1])
        return num_steps * run.recipe.batch_size / (time.perf_counter() - start)

    return measure


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, help="a folder with the splits train and val")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shards = args.shards or Path(folder) / "shards"
        if args.shards is None:
            make_shards(["--out", str(shards), "--synthetic", "2000", "--size", str(args.image_size)])
        config = resolve_config(
            TrainConfig(
                train=(str(shards / "manifest.json"),),
                model=args.model,
                image_size=args.image_size,
                batch_size=args.batch_size,
                device=args.device,
                compile=args.compile,
            )
        )
        ranks = Ranks(device=torch.device(config.device))
        with open_stream(config, "train", ranks) as train, open_stream(config, "val", ranks) as val:
            run = assemble_run(settle_config(config, train), train, val, {}, ranks=ranks, fresh=True)
            batches, waits = train.endless(), list[float]()
            cached = repeat(next(batches))
            runs = {
                STREAM: timed_steps(run, batches, num_steps=args.steps, waits=waits),
                CEILING: timed_steps(run, cached, num_steps=args.steps, waits=[]),
            }
            if config.device == "cpu":
                kind = {
                    "model": config.model,
                    "image_size": args.image_size,
                    "bf16": config.precision == "bf16",
                    "batch_size": config.batch_size,
                }
                runs[PLAIN] = plain_steps(val, num_steps=args.steps, **kind)
            figures = run_rounds(runs, num_rounds=args.rounds)
    print_table(figures, unit="images per second", reference=CEILING)
    print_targets(headspace_targets(figures, wait_fraction=statistics.median(waits[1:])))
    settings = {name: getattr(config, name) for name in ("model", "image_size", "batch_size", "device", "precision")}
    contents = {"settings": settings, "images_per_second": figures, "wait_fractions": waits[1:]}
    print(save_result(f"headspace-{config.model}-{config.image_size}-{config.device}", contents))


if __name__ == "__main__":
    main()
