"""Small training runs for the tests: a set, the command line of a run, and the results of a run."""

import json
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from tests.sample_sets import write_set
from wds_bone.command_line import parse_config
from wds_bone.commands import TRAIN
from wds_bone.distributed.ranks import Ranks
from wds_bone.learn.assemble import assemble_run, open_streams, provenance_of
from wds_bone.learn.run import Run
from wds_bone.learn.settings import TrainConfig, make_recipe, resolve_config
from wds_bone.model.checkpoint import load_checkpoint
from wds_bone.objects.protocol import Transfer

SINGLE_RANK = Ranks(device=torch.device("cpu"))
SMALL_MODEL = "shufflenet_v2_x0_5"
NUM_STEPS = 5  # 10 samples, batches of 4, 2 epochs


@contextmanager
def limit_file_size(num_bytes: int) -> Iterator[None]:
    """Limit the size of files that this process writes, like a disk that fills up; Python ignores SIGXFSZ."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def write_small_set(folder: Path) -> Path:
    """Write a set of 10 training samples in two shards and 5 validation samples, 32 x 32 pixels."""
    return write_set(folder, size=32, train=[7, 3], val=[5])


def train_argv(shards: Path, out: Path, *more: str) -> list[str]:
    """Return the command line of a run with five steps and validations after steps 3 and 5."""
    fixed = [
        "--epochs",
        "2",
        "--batch-size",
        "4",
        "--log-every",
        "1",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--lr",
        "0.001",
    ]
    train = [] if "--train" in more else ["--train", str(shards / "manifest.json")]
    return [*train, "--out", str(out), "--model", SMALL_MODEL, *fixed, *more]


@contextmanager
def open_run(argv: list[str], *, ranks: Ranks = SINGLE_RANK) -> Iterator[Run]:
    """Open a new run with this command line, without creating its folder."""
    config = resolve_config(parse_config(TrainConfig, argv, TRAIN))
    with ExitStack() as stack:
        streams = open_streams(config, ranks)
        for stream in streams:
            stack.enter_context(stream)
        recipe = make_recipe(config, num_samples=streams[0].num_samples, world_size=1)
        yield assemble_run(recipe, streams, provenance_of(recipe.config, *streams), ranks=ranks, is_new=True)


def state_of(checkpoint: Path) -> dict[str, Any]:
    """Return what must be equal in the checkpoints of equal runs, as a flat mapping of names to tensors or values."""
    contents = load_checkpoint(checkpoint)
    contents.pop("clock", None)
    for name in ("train", "out", "max_steps", "threads", "resume", "wandb", "cache", "cache_bytes", "allow_host"):
        del contents["config"][name]
    return dict(_leaves("", contents))


def assert_same_state(one: Path, other: Path) -> None:
    """Fail unless two checkpoints have the same state, bit for bit."""
    first, second = state_of(one), state_of(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not _same(first[name], second[name])]
    assert different == []


def metrics_of(out: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run, line by line, without those that depend on time, memory and network."""
    varying = {"elapsed_seconds", "images_per_second", "wait_fraction", "rss_bytes", "val_seconds"}
    varying |= {field.name for field in fields(Transfer)}
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in varying} for line in lines]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in pairs:
            yield from _leaves(f"{path}/{name}", part)
    else:
        yield path, value


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)
