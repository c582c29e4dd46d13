"""What will be written, decided before anything is: which samples go into which shard of which split, in which order.

In: sources and settings. Out: a `SetPlan`. Invariant: the digest of a split covers what decides the split's bytes, and
nothing else: no path, host, time or number of workers. Of a film it covers the size only: that a film was changed but
not its size is noticed by nobody, and is a reason for --replace.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wds_bone.errors import ConfigError
from wds_bone.labels.read import Rejected
from wds_bone.sharding.sources import Source
from wds_bone.sharding.split import divide_evenly, shuffle_labels, split_labels
from wds_bone.shards.manifest import FORMAT_VERSION, ImageFormat

MAX_SAMPLES_PER_SHARD = 1000
MIN_SAMPLES_PER_SHARD = 64
USUAL_NUM_SHARDS = 12


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be written, and the sources of its samples in order."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class SplitPlan:
    """One split to be written; `digest` identifies its bytes, as far as the films of one size are the same."""

    name: str
    shards: tuple[ShardPlan, ...]
    digest: str

    @property
    def num_samples(self) -> int:
        """The samples of all its shards."""
        return sum(len(shard.sources) for shard in self.shards)


@dataclass(frozen=True)
class SetPlan:
    """What one call of make_shards writes.

    Attributes:
        image: the format of all images.
        samples_per_shard: at most; the shards of a split differ by one sample at most.
        splits: in the order of writing.
        rejected: samples that were left out while planning.
        label_table_sha256: of the file the labels were read from, None for synthetic hands.
    """

    image: ImageFormat
    samples_per_shard: int
    splits: tuple[SplitPlan, ...]
    rejected: tuple[Rejected, ...] = ()
    label_table_sha256: str | None = None


def assign_splits(
    sources: Sequence[Source], *, named: str | None, val_fraction: float, seed: int
) -> dict[str, list[Source]]:
    """Return the sources per split in the order of writing: all in the `named` one, or divided into train and val.

    Raises:
        ConfigError: a split would be empty.
    """
    by_key = {source.label.key: source for source in sources}
    labels = [source.label for source in sources]
    if named is not None:
        parts = {named: labels}
    else:
        train, val = split_labels(labels, val_fraction, seed=seed)
        parts = {"train": train, "val": val} if val_fraction else {"train": train}
    for name, part in parts.items():
        if not part:
            raise ConfigError(
                f"the split '{name}' would have no sample",
                expected="at least one sample in every split",
                got=f"{len(sources)} samples, --val-fraction {val_fraction:g}",
                do="give more samples, another --val-fraction, or one split with --split NAME",
            )
    return {name: [by_key[label.key] for label in shuffle_labels(part, seed=seed)] for name, part in parts.items()}


def usual_samples_per_shard(num_samples: int) -> int:
    """Return a size that gives about a dozen shards: enough for as many writers, not so many that files are tiny."""
    return min(MAX_SAMPLES_PER_SHARD, max(MIN_SAMPLES_PER_SHARD, math.ceil(num_samples / USUAL_NUM_SHARDS)))


def plan_split(name: str, sources: Sequence[Source], image: ImageFormat, *, samples_per_shard: int) -> SplitPlan:
    """Return the plan of one split; `sources` stand in the order of writing."""
    runs = divide_evenly(sources, samples_per_shard)
    shards = tuple(ShardPlan(f"{name}-{number:06d}.tar", tuple(run)) for number, run in enumerate(runs))
    return SplitPlan(name, shards, _split_digest(name, sources, image, samples_per_shard))


def plan_as_json(plan: SetPlan) -> dict[str, object]:
    """Return what identifies `plan`, in words that a message can show."""
    splits = {split.name: {"num_samples": split.num_samples, "digest": split.digest} for split in plan.splits}
    return {
        "version": FORMAT_VERSION,
        **json.loads(json.dumps(dataclasses.asdict(plan.image))),
        "samples_per_shard": plan.samples_per_shard,
        "splits": splits,
    }


def describe_difference(new: Mapping[str, object], old: Mapping[str, object]) -> tuple[str, str]:
    """Return (expected, got) for a message: what the `old` and the `new` plan say where they differ."""
    names = [name for name in new if new[name] != old.get(name)]
    return _show(old, names), _show(new, names)


def _show(plan: Mapping[str, object], names: Sequence[str]) -> str:
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
        digest.update(b"\n" + json.dumps(row).encode())
    return digest.hexdigest()
