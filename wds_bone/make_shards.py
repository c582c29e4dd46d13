"""The command `make_shards`: its settings, and the line from them to a set of shards.

In: the command line. Out: a folder of shards, a table on stdout, an exit code. Invariant: all that the settings can get
wrong is found before the first shard is written.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from wds_bone.config import parse_config, run_command
from wds_bone.labels.read import LabelColumns, Rejected
from wds_bone.sharding.bad_list import BAD_NAME
from wds_bone.sharding.build import BuiltSet, build_set
from wds_bone.sharding.lock import writer_lock
from wds_bone.sharding.overview import HISTOGRAM_NAME, SHEET_NAME, count_samples, format_counts
from wds_bone.sharding.plan import SetPlan, assign_splits, plan_split, usual_samples_per_shard
from wds_bone.sharding.settings import (
    USUAL_FILM_PIXELS,
    USUAL_HAND_PIXELS,
    USUAL_NUM_HANDS,
    USUAL_VAL_FRACTION,
    MakeShardsConfig,
)
from wds_bone.sharding.sources import Source, film_sources, hand_sources
from wds_bone.sharding.writer import check_budget, count_causes
from wds_bone.shards.manifest import ImageFormat

DESCRIPTION = """Write labeled hand radiographs as tar shards. Without --labels it draws synthetic ones. An interrupted
run is finished by the same command."""
EXIT_INTERRUPTED = 130
TEST_RATERS = 6
"""The labels of RSNA's test films are means of six readings, the others are of one; so are those of synthetic hands."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for an error the user can mend, 130 after Ctrl-C."""

    def command() -> None:
        config = parse_config(MakeShardsConfig, argv, prog="make_shards.py", description=DESCRIPTION)
        make_shards(config)

    try:
        return run_command(command)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here")  # noqa: T201
        return EXIT_INTERRUPTED


def make_shards(config: MakeShardsConfig) -> BuiltSet:
    """Write the set that `config` describes, print what it is, and return it."""
    with writer_lock(config.out) as lock:
        plan = plan_set(config)
        print(_describe_plan(plan, config.out))  # noqa: T201
        built = build_set(
            plan,
            config.out,
            lock=lock,
            workers=config.workers or _num_cores(),
            max_bad=config.max_bad,
            replace=config.replace,
        )
    print(_describe_result(built, config.out))  # noqa: T201
    return built


def plan_set(config: MakeShardsConfig) -> SetPlan:
    """Return what `config` asks for; reads the label table and looks for the films, but reads none."""
    rejected: list[Rejected] = []
    sources = _find_sources(config, rejected)
    check_budget(rejected, config.max_bad)
    image = _image_format(config)
    fraction = USUAL_VAL_FRACTION if config.val_fraction is None else config.val_fraction
    parts = assign_splits(sources, named=config.split, val_fraction=fraction, seed=config.seed)
    size = config.samples_per_shard or usual_samples_per_shard(len(sources))
    splits = tuple(plan_split(name, part, image, samples_per_shard=size) for name, part in parts.items())
    table_sha256 = hashlib.sha256(config.labels.read_bytes()).hexdigest() if config.labels else None
    return SetPlan(image, size, splits, tuple(rejected), table_sha256)


def _find_sources(config: MakeShardsConfig, rejected: list[Rejected]) -> list[Source]:
    if config.labels is None:
        raters = TEST_RATERS if config.split == "test" else 1
        return hand_sources(config.synthetic or USUAL_NUM_HANDS, seed=config.seed, raters=raters)
    columns = LabelColumns(config.id_column, config.age_column, config.gender_column, config.gender_is, config.age_unit)
    may_skip = rejected if config.on_bad == "skip" else None
    sources, num_unlabeled = film_sources(config.labels, config.images, columns, rejected=may_skip)
    if num_unlabeled:
        print(f"{num_unlabeled:,} images have no label and are left out")  # noqa: T201
    return sources


def _image_format(config: MakeShardsConfig) -> ImageFormat:
    size = config.size or (USUAL_HAND_PIXELS if config.labels is None else USUAL_FILM_PIXELS)
    quality = config.quality if config.encoding == "jpg" else None
    return ImageFormat(config.encoding, size, size, quality, "letterbox", config.stretch)


def _describe_plan(plan: SetPlan, out: Path) -> str:
    image = plan.image
    quality = f" q{image.quality}" if image.quality else ""
    parts = [f"{split.name} {count_samples(split.num_samples, len(split.shards))}" for split in plan.splits]
    return f"{out}: {', '.join(parts)}; {image.height} x {image.width} {image.encoding}{quality}"


def _describe_result(built: BuiltSet, out: Path) -> str:
    lines = [format_counts(built.manifest), f"pictures: {out / SHEET_NAME}  {out / HISTOGRAM_NAME}"]
    if built.rejected:
        lines.append(f"left out: {count_causes(list(built.rejected))}; listed in {out / BAD_NAME}")
    if built.was_complete:
        lines.append("already complete: nothing was written")
    return "\n".join(lines)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
