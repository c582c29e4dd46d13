"""Write labeled films, or synthetic ones, as tar shards: `wds-bone make-shards`.

In: a label table and folders of films, on a disk or in object storage, or the number of hands to draw.
Out: a folder or prefix of shards, a summary on standard output, and an exit code.
Invariant: every mistake in the settings is found before the first shard is written.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("make-shards")

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from wds_bone.command_line import parse_config, run_command
from wds_bone.commands import MAKE_SHARDS
from wds_bone.interrupt import Interruption
from wds_bone.labels.read import RejectedSample
from wds_bone.objects.access import allow_redirects_to
from wds_bone.paths import refuse_unusable_folder
from wds_bone.sharding.build import BuiltSet, build_set
from wds_bone.sharding.cluster import write_shards_on_cluster
from wds_bone.sharding.cluster_client import connect
from wds_bone.sharding.lists import BAD_NAME, KEYS_NAME
from wds_bone.sharding.overview import HISTOGRAM_NAME, SHEET_NAME, format_counts, format_num_samples
from wds_bone.sharding.patients import NO_PATIENTS, describe_patients
from wds_bone.sharding.plan import SetPlan, assign_splits, default_samples_per_shard, plan_split
from wds_bone.sharding.processes import WriteShards, write_shards
from wds_bone.sharding.settings import (
    DEFAULT_FILM_PIXELS,
    DEFAULT_HAND_PIXELS,
    DEFAULT_NUM_HANDS,
    DEFAULT_VAL_FRACTION,
    MakeShardsConfig,
)
from wds_bone.sharding.sources import FilmSources, film_sources, synthetic_sources
from wds_bone.sharding.writer import check_bad_budget, format_causes
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME, ImageFormat
from wds_bone.storage.folders import refuse_unusable_prefix
from wds_bone.storage.location import Location, parse_location
from wds_bone.storage.lock import Lock, folder_lock
from wds_bone.storage.machine import check_count
from wds_bone.storage.object_lock import prefix_lock
from wds_bone.stream.settings import available_cores

FILES_OF_A_SET = (MANIFEST_NAME, BAD_NAME, KEYS_NAME, SHEET_NAME, HISTOGRAM_NAME)
"""The files that are written in the folder of the set itself; shards and indexes come from the staging folder."""
TEST_RATERS = 6
"""RSNA's test labels are means of six readings, its other labels single readings; synthetic hands do the same."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 after an error that the user can fix, 128 + n after signal n."""
    parse = partial(parse_config, MakeShardsConfig, argv, MAKE_SHARDS)
    return run_command(MAKE_SHARDS, parse=parse, run=_run)


def _run(config: MakeShardsConfig, _interruption: Interruption) -> None:
    make_shards(config)


def make_shards(config: MakeShardsConfig) -> BuiltSet:
    """Write the set that `config` describes, print a summary of it, and return it."""
    check_count("--workers", config.workers, cores=available_cores())
    allow_redirects_to(config.allow_host or ())
    out = parse_location(config.out)
    with _lock(out) as lock, _open_writer(config, lock) as write:
        plan = plan_set(config)
        print(_describe_plan(plan, out))  # noqa: T201
        built = build_set(plan, out, write=write, max_bad=config.max_bad, replace=config.replace)
    print(_describe_result(built, plan, out))  # noqa: T201
    return built


@contextmanager
def _lock(out: Location) -> Iterator[Lock | None]:
    """Hold the lock of the folder or prefix of a set."""
    if isinstance(out, Path):
        refuse_unusable_folder(out, files=(MANIFEST_NAME,), folders=(STAGING_NAME,))
        with folder_lock(out, "make-shards", files=FILES_OF_A_SET) as lock:
            yield lock
    else:
        refuse_unusable_prefix(out, do="write to a local folder, and upload it with the tools of the server")
        with prefix_lock(out, "make-shards"):
            yield None


@contextmanager
def _open_writer(config: MakeShardsConfig, lock: Lock | None) -> Iterator[WriteShards]:
    """Yield what writes shards: this machine, or the cluster of a scheduler."""
    if config.scheduler is None:
        yield partial(write_shards, workers=config.workers or available_cores(), lock=lock)
    else:
        with connect(config.scheduler) as client:
            yield partial(write_shards_on_cluster, client=client, images=_image_folders(config))


def plan_set(config: MakeShardsConfig) -> SetPlan:
    """Return the plan of the set that `config` describes; this reads the label table, but opens none of the films."""
    rejected: list[RejectedSample] = []
    found = _find_sources(config, rejected)
    check_bad_budget(rejected, config.max_bad)
    image = _image_format(config)
    fraction = DEFAULT_VAL_FRACTION if config.val_fraction is None else config.val_fraction
    known = NO_PATIENTS if config.patient_column is None else found.patients.patients
    parts = assign_splits(found.sources, named=config.split, val_fraction=fraction, seed=config.seed, patients=known)
    for line in describe_patients(found.patients, parts, is_used=config.patient_column is not None):
        print(line)  # noqa: T201
    size = config.samples_per_shard or default_samples_per_shard(len(found.sources))
    splits = tuple(plan_split(name, part, image, samples_per_shard=size) for name, part in parts.items())
    return SetPlan(image, size, splits, tuple(rejected), found.table_sha256)


def _find_sources(config: MakeShardsConfig, rejected: list[RejectedSample]) -> FilmSources:
    if config.labels is None:
        num_raters, num_hands = TEST_RATERS if config.split == "test" else 1, config.synthetic or DEFAULT_NUM_HANDS
        return FilmSources(synthetic_sources(num_hands, seed=config.seed, num_raters=num_raters))
    may_skip = rejected if config.on_bad == "skip" else None
    table = parse_location(config.labels)
    found = film_sources(table, _image_folders(config), config.label_columns, rejected=may_skip)
    if found.unlabeled:
        print(f"files without a label, not used: {found.unlabeled}")  # noqa: T201
    return found


def _image_folders(config: MakeShardsConfig) -> list[Location]:
    return [parse_location(name) for name in config.images]


def _image_format(config: MakeShardsConfig) -> ImageFormat:
    size = config.size or (DEFAULT_HAND_PIXELS if config.labels is None else DEFAULT_FILM_PIXELS)
    quality = config.quality if config.encoding == "jpg" else None
    return ImageFormat(config.encoding, size, size, quality, "letterbox", config.stretch)


def _describe_plan(plan: SetPlan, out: Location) -> str:
    image = plan.image
    quality = f" q{image.quality}" if image.quality else ""
    parts = [f"{split.name} {format_num_samples(split.num_samples, len(split.shards))}" for split in plan.splits]
    return f"{out}: {', '.join(parts)}; {image.height} x {image.width} {image.encoding}{quality}"


def _describe_result(built: BuiltSet, plan: SetPlan, out: Location) -> str:
    lines = [format_counts(built.manifest), f"figures: {out / SHEET_NAME}  {out / HISTOGRAM_NAME}"]
    others = built.manifest.splits.keys() - {split.name for split in plan.splits}
    if plan.has_groups and others:
        names = ", ".join(sorted(others))
        lines.append(f"patients were not compared with those in {names}, because the ids of patients are not stored")
    if built.rejected:
        lines.append(f"skipped samples, listed in {out / BAD_NAME}: {format_causes(list(built.rejected))}")
    if built.was_complete:
        lines.append("already complete; nothing was written")
    return "\n".join(lines)
