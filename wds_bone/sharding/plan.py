"""Plan which samples go into which shard of which split, and in which order.

In: sources and settings.
Out: a `SetPlan`, complete before anything is written.
Invariant: the digest of a split covers everything that determines its bytes and nothing else: no path, host, time or
number of workers. Of a film it covers only the file size. A film that changes but keeps its size is not detected, and
the split must then be written again with --replace.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from wds_bone.errors import ConfigError
from wds_bone.labels.read import Label, RejectedSample
from wds_bone.sharding.patients import NO_PATIENTS, films_by_patient, number_groups
from wds_bone.sharding.sources import Source
from wds_bone.sharding.split import divide_evenly, shuffle_labels, split_labels
from wds_bone.shards.manifest import FORMAT_VERSION, ImageFormat

MAX_SAMPLES_PER_SHARD = 1000
MIN_SAMPLES_PER_SHARD = 64
TARGET_NUM_SHARDS = 12


@dataclass(frozen=True)
class ShardPlan:
    """One shard to write, and the sources of its samples in order."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class SplitPlan:
    """One split to write; `digest` identifies its bytes, unless a film changed but kept its size."""

    name: str
    shards: tuple[ShardPlan, ...]
    digest: str

    @property
    def num_samples(self) -> int:
        """The number of samples in all its shards."""
        return sum(len(shard.sources) for shard in self.shards)

    @property
    def has_groups(self) -> bool:
        """Whether its patients are known."""
        return self.shards[0].sources[0].group is not None


@dataclass(frozen=True)
class SetPlan:
    """Everything that one run of `wds-bone make-shards` writes.

    Attributes:
        image: the format of all images.
        samples_per_shard: the maximum; the sizes of the shards of a split differ by at most one sample.
        splits: the splits, in the order in which they are written.
        rejected: the samples that were left out during planning.
        label_table_sha256: the hash of the label table, or None for synthetic hands.
    """

    image: ImageFormat
    samples_per_shard: int
    splits: tuple[SplitPlan, ...]
    rejected: tuple[RejectedSample, ...] = ()
    label_table_sha256: str | None = None

    @property
    def has_groups(self) -> bool:
        """Whether its patients are known."""
        return any(split.has_groups for split in self.splits)


def assign_splits(
    sources: Sequence[Source],
    *,
    named: str | None,
    val_fraction: float,
    seed: int,
    patients: Mapping[str, str] = NO_PATIENTS,
) -> dict[str, list[Source]]:
    """Return the sources of each split in writing order: all in the split `named`, or divided into train and val.

    Args:
        sources: all samples.
        named: the only split, or None.
        val_fraction: the share of samples to hold out as val.
        seed: the seed of the split and of the order.
        patients: the patient of each key, to keep films of a patient in one split; empty if patients are not known.

    Raises:
        ConfigError: if a split would be empty.
    """
    by_key = {source.label.key: source for source in sources}
    labels = [source.label for source in sources]
    if named is not None:
        parts = {named: labels}
    else:
        train, val = split_labels(labels, val_fraction, seed=seed, patients=patients)
        parts = {"train": train, "val": val} if val_fraction else {"train": train}
    for name, part in parts.items():
        if not part:
            raise ConfigError(
                f"split '{name}' would be empty",
                expected="at least one sample in every split",
                got=f"{len(sources)} samples, {_count_patients(labels, patients)}--val-fraction {val_fraction:g}",
                do="add samples, change --val-fraction, or put all samples into one split with --split NAME",
            )
    ordered = {name: [by_key[label.key] for label in shuffle_labels(part, seed=seed)] for name, part in parts.items()}
    return number_groups(ordered, patients) if patients else ordered


def default_samples_per_shard(num_samples: int) -> int:
    """Return a size that gives about 12 shards: enough to keep 12 writers busy, but no tiny files."""
    return min(MAX_SAMPLES_PER_SHARD, max(MIN_SAMPLES_PER_SHARD, math.ceil(num_samples / TARGET_NUM_SHARDS)))


def plan_split(name: str, sources: Sequence[Source], image: ImageFormat, *, samples_per_shard: int) -> SplitPlan:
    """Return the plan of one split, whose `sources` are given in writing order."""
    chunks = divide_evenly(sources, samples_per_shard)
    shards = tuple(ShardPlan(f"{name}-{number:06d}.tar", tuple(chunk)) for number, chunk in enumerate(chunks))
    return SplitPlan(name, shards, _split_digest(name, sources, image, samples_per_shard))


def shift_groups(plan: SetPlan, first: int) -> SetPlan:
    """Return `plan` with its group numbers counted from `first`, so that they differ from those of other splits."""

    def shift(source: Source) -> Source:
        return source if source.group is None else replace(source, group=first + source.group)

    def shift_shard(shard: ShardPlan) -> ShardPlan:
        return replace(shard, sources=tuple(map(shift, shard.sources)))

    return replace(
        plan, splits=tuple(replace(split, shards=tuple(map(shift_shard, split.shards))) for split in plan.splits)
    )


def plan_as_json(plan: SetPlan) -> dict[str, object]:
    """Return the values that identify `plan`, under names that an error message can show."""
    splits = {split.name: {"num_samples": split.num_samples, "digest": split.digest} for split in plan.splits}
    return {
        "version": FORMAT_VERSION,
        **json.loads(json.dumps(dataclasses.asdict(plan.image))),
        "samples_per_shard": plan.samples_per_shard,
        "patient_groups": plan.has_groups,
        "splits": splits,
    }


def describe_difference(new: Mapping[str, object], old: Mapping[str, object]) -> tuple[str, str]:
    """Return (expected, got) for an error message: the values of `old` and of `new` where the two differ."""
    names = [name for name in new if new[name] != old.get(name)]
    return _format_values(old, names), _format_values(new, names)


def _count_patients(labels: Sequence[Label], patients: Mapping[str, str]) -> str:
    return f"patients: {len(films_by_patient(labels, patients))}, " if patients else ""


def _format_values(plan: Mapping[str, object], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {json.dumps(plan.get(name))}" for name in names)


def _split_digest(name: str, sources: Sequence[Source], image: ImageFormat, samples_per_shard: int) -> str:
    digest = hashlib.sha256()
    header = {"version": FORMAT_VERSION, "split": name, "samples_per_shard": samples_per_shard} | dataclasses.asdict(
        image
    )
    digest.update(json.dumps(header, sort_keys=True).encode())
    for source in sources:
        label = source.label
        row = [label.key, label.gender, float(label.age_months), source.fingerprint]
        row += [] if source.group is None else [source.group]
        digest.update(b"\n" + json.dumps(row).encode())
    return digest.hexdigest()
