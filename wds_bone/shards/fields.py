"""Check the fields of a manifest: their names, types and ranges.

In: the JSON of a manifest, whose digest anybody can compute again after a change.
Out: nothing, or a `ValueError` that names the field.
Invariant: what passes can be used without another check, and only `wds-bone verify` compares it with the shards.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from wds_bone.images.faults import MAX_PIXELS
from wds_bone.labels.values import MAX_AGE_MONTHS
from wds_bone.shards.statistics import NUM_AGE_BANDS

Check = Callable[[Any], bool]
_SHARD_NAME = re.compile(r"[^./][^/]*\.tar")
_SHA256 = re.compile("[0-9a-f]{64}")
MAX_NAME_BYTES = 200
"""The length of the longest name of a shard; a file system allows 255, which names of indexes come closer to."""
_MAX_BYTES = 2**63 - 1
_END_BYTES = 1024  # a tar without members


def is_shard_name(name: object) -> bool:
    """Return whether a manifest may list a shard of this name: printable, not hidden, and in the set's own folder."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and len(name.encode()) <= MAX_NAME_BYTES
        and _SHARD_NAME.fullmatch(name) is not None
    )


def check_image(image: Mapping[str, Any]) -> None:
    """Raise `ValueError` if the fields of an image format are wrong."""
    _check("image", image, _IMAGE)
    if image["height"] * image["width"] > MAX_PIXELS:
        raise ValueError(f"image: more than {MAX_PIXELS:,} pixels")


def check_splits(splits: Mapping[str, Any]) -> None:
    """Raise `ValueError` if there are no splits, or the fields of one are wrong or its counts disagree."""
    if not splits:
        raise ValueError("there are no splits")
    for name, split in splits.items():
        _check_split(name, split)


def check_groups(groups: Mapping[str, Any]) -> None:
    """Raise `ValueError` if a digest of patient groups is none."""
    for name, digest in groups.items():
        if not _is_sha256(digest):
            raise ValueError(f"groups of {name!r}: {str(digest)[:80]!r}")


def _check_split(name: str, split: Mapping[str, Any]) -> None:
    where = f"split {name!r}"
    if not name.isprintable() or not name:
        raise ValueError(f"{where}: its name is not printable")
    _check(where, split, _SPLIT)
    for shard in split["shards"]:
        _check(f"{where}: shard", shard, _SHARD)
    labels, num_samples = split["labels"], split["num_samples"]
    _check(f"{where}: labels", labels, _LABELS)
    counts = labels["genders"]
    if sum(shard["num_samples"] for shard in split["shards"]) != num_samples:
        raise ValueError(f"{where}: num_samples {num_samples} is not the sum over the shards")
    if sum(counts.values()) != num_samples or any(sum(labels["age_histogram"][g]) != counts[g] for g in counts):
        raise ValueError(f"{where}: the label statistics do not add up to num_samples {num_samples}")


def _check(where: str, found: Any, checks: Mapping[str, Check]) -> None:
    if not isinstance(found, dict) or found.keys() != checks.keys():
        raise ValueError(f"{where}: expected the fields {', '.join(checks)}")
    for name, is_right in checks.items():
        if not is_right(found[name]):
            raise ValueError(f"{where}: {name} {str(found[name])[:80]!r}")


def _whole(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high  # a bool is no number


def _number(low: float, high: float) -> Check:
    return lambda value: type(value) in (int, float) and low <= value <= high  # False for NaN


def _one_of(*values: str | None) -> Check:
    return lambda value: value in values and type(value) in (str, type(None))


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _fields(**checks: Check) -> Check:
    return lambda value: (
        isinstance(value, dict) and value.keys() == checks.keys() and all(checks[name](value[name]) for name in checks)
    )


def _list(check: Check, length: int | None = None) -> Check:
    return lambda value: isinstance(value, list) and length in (None, len(value)) and all(map(check, value))


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


_count = _whole(0, _MAX_BYTES)
_age = _number(0, MAX_AGE_MONTHS)
_bands = _list(_count, NUM_AGE_BANDS)
_IMAGE = {
    "encoding": _one_of("jpg", "png", "npy", None),
    "height": _whole(1, MAX_PIXELS),
    "width": _whole(1, MAX_PIXELS),
    "quality": _optional(_whole(1, 100)),
    "fit": _one_of("letterbox", "letterbox at reading", None),
    "stretch": _optional(_list(_number(0, 100), 2)),
}
_SHARD = {
    "name": is_shard_name,
    "num_samples": _count,
    "shard_bytes": _whole(_END_BYTES, _MAX_BYTES),
    "sha256": _is_sha256,
    "index_sha256": _is_sha256,
}
_LABELS = {
    "age_months": _fields(mean=_age, sd=_age, min=_age, max=_age),
    "genders": _fields(F=_count, M=_count),
    "age_histogram": _fields(F=_bands, M=_bands),
}
_SPLIT = {
    "num_samples": _whole(1, _MAX_BYTES),
    "labels": lambda value: isinstance(value, dict),
    "shards": lambda value: isinstance(value, list),
    "label_table_sha256": _optional(_is_sha256),
    "plan": _optional(_is_sha256),
}
