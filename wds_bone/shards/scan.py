"""Read a whole shard once, strictly.

In: a tar written by wds_bone or by plain webdataset.
Out: a `ScannedShard`, the only source of every index.
Invariant: a sample is one image member next to its label members; other members, repeated keys and ambiguous labels
are errors.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from zlib_ng.zlib_ng import crc32

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.labels.read import Label, label_from_mapping, states_unit
from wds_bone.shards.image_size import ENCODING_OF_EXTENSION, image_size
from wds_bone.shards.samples import SampleTable, make_table
from wds_bone.shards.tar import Member, members
from wds_bone.storage.location import Location, open_file

LABEL_EXTENSIONS = ("gender", "male", "age", "age_months")
MAX_LABEL_BYTES = 2**16
MAX_KEY_BYTES = 200


@dataclass(frozen=True)
class ScannedShard:
    """The result of scanning a shard."""

    name: str
    shard_bytes: int
    sha256: str
    table: SampleTable
    image_sizes: frozenset[tuple[int, int]]
    components: tuple[tuple[tuple[str, int, int, str], ...], ...]
    """(extension, offset, size, name) of every member of every sample: the rows of DALI's index."""
    states_age_unit: bool
    """Whether every age is stored under a name that states its unit."""


def scan_shard(path: Location) -> ScannedShard:
    """Read all of `path` and return its sample table and digests; memory holds the table and one sample.

    Raises:
        ShardError: if the tar cannot be read, is damaged or is not a shard; the error gives the byte offset or key.
        LabelError: if a label is invalid or ambiguous.
        ImageError: if an image is empty or too large.
    """
    try:
        return _scan(path)
    except OSError as error:
        do = "check the disk, fetch the shard again, or rebuild it with `wds-bone make-shards`"
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=do) from error


def _scan(path: Location) -> ScannedShard:
    digest = hashlib.sha256()
    rows, sizes, components, keys, is_stated = [], set(), [], set(), True
    with open_file(path) as shard:
        for key, parts in _samples(members(shard, str(path), digest=digest), str(path)):
            if key in keys:
                raise _sample_error(path, key, "each key once", "a repeated key")
            keys.add(key)
            row, size, states_age_unit = _read_sample(key, parts, path)
            is_stated = is_stated and states_age_unit
            rows.append(row)
            sizes.add(size)
            components.append(tuple(_component(key, member) for _, member in parts))
        shard_bytes = shard.tell()
    found = make_table(rows), frozenset(sizes), tuple(components)
    return ScannedShard(path.name, shard_bytes, digest.hexdigest(), *found, is_stated)


def _component(key: str, member: Member) -> tuple[str, int, int, str]:
    # DALI's reader compares the extension as it is spelled in the tar.
    return member.name[len(key) + 1 :], member.offset, len(member.contents), member.name


def _samples(stream: Iterator[Member], path: str) -> Iterator[tuple[str, list[tuple[str, Member]]]]:
    """Yield (key, [(extension, member), ...]) for adjacent members with the same key, as webdataset does."""
    named = ((*_parse_member_name(member.name, path), member) for member in stream)
    for key, group in groupby(named, key=lambda triple: triple[0]):
        yield key, [(extension, member) for _, extension, member in group]


def _parse_member_name(name: str, path: str) -> tuple[str, str]:
    """Return the key and the extension: the name split at the first dot of its last part, as in webdataset."""
    folder, slash, file_name = name.rpartition("/")
    stem, _, extension = file_name.partition(".")
    key = folder + slash + stem
    parts = key.split("/")
    if not stem or not extension or len(key.encode()) > MAX_KEY_BYTES or not all(map(_is_safe, parts)):
        raise ShardError(
            f"{path}: invalid member name {name!r}",
            expected="KEY.EXTENSION in printable characters, without '..' or a leading '/'",
            got=repr(name),
            do="rewrite the shard with plain keys",
        )
    return key, extension.lower()


def _is_safe(part: str) -> bool:
    return part not in ("", ".", "..") and part.isprintable()


def _read_sample(
    key: str, parts: list[tuple[str, Member]], path: Location
) -> tuple[tuple[Any, ...], tuple[int, int], bool]:
    """Return the row of the sample table, the (height, width) of the image, and whether the age states its unit."""
    contents = {extension: member.contents for extension, member in parts}
    images = [(extension, member) for extension, member in parts if extension in ENCODING_OF_EXTENSION]
    known = [
        extension
        for extension in contents
        if extension in ENCODING_OF_EXTENSION or extension in (*LABEL_EXTENSIONS, "json")
    ]
    if len(contents) != len(parts) or len(images) != 1 or len(known) != len(parts):
        found = ", ".join(extension for extension, _ in parts)
        raise _sample_error(path, key, "one jpg, png or npy member and its label", found)
    label, states_age_unit = _read_label(key, contents, path)
    extension, image = images[0]
    encoding = ENCODING_OF_EXTENSION[extension]
    size = image_size(image.contents, encoding, f"{path}: sample '{key}'")
    position = (image.offset, len(image.contents), crc32(image.contents))
    row = (key.encode(), *position, label.age_months, label.gender.encode(), encoding.encode())
    return row, size, states_age_unit


def _read_label(key: str, contents: dict[str, bytes], path: Location) -> tuple[Label, bool]:
    values = {extension: contents[extension] for extension in LABEL_EXTENSIONS if extension in contents}
    if ("json" in contents) == bool(values):
        raise _sample_error(path, key, "a .json member, or members like .gender and .age_months", ", ".join(contents))
    if any(len(contents[extension]) > MAX_LABEL_BYTES for extension in (values or ["json"])):
        raise _sample_error(path, key, f"a label of at most {MAX_LABEL_BYTES:,} bytes", "a larger one")
    try:
        mapping = {name: text.decode().strip() for name, text in values.items()} or _parse_json(contents["json"])
        return label_from_mapping(key, mapping), states_unit(mapping)
    except WdsBoneError as error:
        raise type(error)(f"{path}: {error.problem}", expected=error.expected, got=error.got, do=error.do) from error
    except (ValueError, RecursionError) as error:
        raise _sample_error(path, key, "a label in UTF-8 JSON", error) from error


def _parse_json(text: bytes) -> dict[str, Any]:
    mapping = json.loads(text.decode(), parse_constant=_refuse_constant)
    if not isinstance(mapping, dict):
        raise ValueError(f"a JSON {type(mapping).__name__}, not an object")
    return mapping


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _sample_error(path: Location, key: str, expected: object, got: object) -> ShardError:
    do = "rewrite the shard; README.md describes the format"
    return ShardError(f"{path}: sample '{key}' is invalid", expected=expected, got=got, do=do)
