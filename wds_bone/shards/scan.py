"""Read a whole shard once, strictly.

In: a tar written by wds_bone or by plain webdataset.
Out: a `ScannedShard`, the only source of every index.
Invariant: a sample is one image member next to its label members; a sample without one of them, repeated keys and
ambiguous labels are errors. Other members are counted and never looked at. Memory holds the table and one sample.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from zlib_ng.zlib_ng import crc32

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.labels.read import Label, label_from_mapping, states_unit
from wds_bone.shards.image_size import ENCODING_OF_EXTENSION, image_size
from wds_bone.shards.repacking import do_about_order
from wds_bone.shards.samples import MAX_KEY_BYTES, SampleTable, is_key, make_table
from wds_bone.shards.tar import Member, members
from wds_bone.storage.location import Location, open_file

LABEL_EXTENSIONS = ("gender", "male", "age", "age_months")
MAX_LABEL_BYTES = 2**16
_KNOWN = {*ENCODING_OF_EXTENSION, *LABEL_EXTENSIONS, "json"}
_MAX_KINDS_IGNORED = 20  # whatever is in a tar, memory is bounded
_MAX_SHOWN = 100
_NAME_FIELD_BYTES = 100
_LEADING = re.compile(r"\A(?:\./)+")
_DEFAULT_REMEDY = "rewrite the shard; README.md describes the format"
_NO_DOTS = "rename the files: a key ends at the first dot, so it cannot contain one"


@dataclass(frozen=True)
class ScannedShard:
    """The result of scanning a shard."""

    name: str
    shard_bytes: int
    sha256: str
    table: SampleTable
    image_sizes: frozenset[tuple[int, int]]
    components: tuple[tuple[tuple[str, int, int, str], ...], ...]
    """(extension, offset, size, name) of the image and label members of every sample: the rows of DALI's index."""
    states_age_unit: bool
    """Whether every age is stored under a name that states its unit."""
    ignored: Mapping[str, int]
    """The number of members that are neither image nor label, by extension."""


@dataclass(eq=False)
class _Group:
    """Adjacent members with the same key: image and labels by extension, and another one that looks like an image."""

    key: str
    parts: dict[str, Member] = field(default_factory=dict)
    image_like: str | None = None


def scan_shard(path: Location) -> ScannedShard:
    """Read all of `path` and return its sample table and digests; memory holds the table and one sample.

    Raises:
        ShardError: if the tar cannot be read, is damaged or is not a shard; the error gives the byte offset or key.
        LabelError: if a label is invalid or ambiguous.
        ImageError: if an image is empty or too large.
    """
    try:
        with open_file(path) as shard:
            return scan_file(shard, path)
    except OSError as error:
        do = "check the disk, fetch the shard again, or rebuild it with `wds-bone make-shards`"
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=do) from error


def scan_file(shard: BinaryIO, path: Location) -> ScannedShard:
    """Read all of an open shard, whose location is or will be `path`, as `scan_shard` does; raises `OSError` too."""
    digest, ignored = hashlib.sha256(), Counter[str]()
    rows, sizes, components, keys, is_stated = [], set(), [], set(), True
    stream = members(shard, str(path), digest=digest, is_wanted=_is_known)
    for group in _groups(stream, path, ignored):
        if group.key in keys:
            raise _sample_error(path, group.key, "each key once", "a repeated key")
        keys.add(group.key)
        row, size, states_age_unit = _read_sample(group, path)
        is_stated = is_stated and states_age_unit
        rows.append(row)
        sizes.add(size)
        components.append(tuple(_component(member) for member in group.parts.values()))
    shard_bytes = shard.tell()
    found = make_table(rows), frozenset(sizes), tuple(components)
    return ScannedShard(path.name, shard_bytes, digest.hexdigest(), *found, is_stated, ignored)


def describe_ignored(ignored: Mapping[str, int]) -> list[str]:
    """Return a line about the members of shards that are neither image nor label, if there are any."""
    counts = ", ".join(f"{count:,} {kind}" for kind, count in ignored.items())
    return [f"ignored members that are neither image nor label: {counts}"] if counts else []


def _component(member: Member) -> tuple[str, int, int, str]:
    # DALI's reader compares the extension as it is spelled in the tar.
    return _split_name(member.name)[1], member.offset, len(member.contents), member.name


def _groups(stream: Iterator[Member], path: Location, ignored: Counter[str]) -> Iterator[_Group]:
    """Yield the samples: adjacent members with the same key, as in webdataset; count the other members in `ignored`."""
    group = _Group("")
    for member in stream:
        if _is_macos_metadata(member.name):
            _count_ignored("macOS metadata", ignored)
            continue
        key, extension = _parse_member_name(member.name, path)
        if key != group.key:
            yield from _finished(group, path)
            group = _Group(key)
        if extension in _KNOWN:
            _add_part(group, extension, member, path)
        else:
            _count_ignored("." + extension if extension else "without extension", ignored)
            group.image_like = member.name if _looks_like_image(extension) else group.image_like
    yield from _finished(group, path)


def _add_part(group: _Group, extension: str, member: Member, path: Location) -> None:
    is_second_image = extension in ENCODING_OF_EXTENSION and group.parts.keys() & ENCODING_OF_EXTENSION.keys()
    if extension in group.parts or is_second_image:
        found = ", ".join([*group.parts, extension])
        raise _sample_error(path, group.key, "one jpg, png or npy member and its label", found)
    group.parts[extension] = member


def _finished(group: _Group, path: Location) -> Iterator[_Group]:
    """Yield the group if it is a sample; members without a sample are refused if they look like its image."""
    if group.parts:
        yield group
    elif group.image_like:
        expected = f"an image named {group.key}.jpg, .jpeg, .png or .npy"
        raise _sample_error(path, group.key, expected, repr(group.image_like), do=_NO_DOTS)


def _count_ignored(kind: str, ignored: Counter[str]) -> None:
    ignored[kind if kind in ignored or len(ignored) < _MAX_KINDS_IGNORED else "others"] += 1


def _looks_like_image(extension: str) -> bool:
    return extension.rpartition(".")[2] in ENCODING_OF_EXTENSION


def _is_macos_metadata(name: str) -> bool:
    file_name = name.rpartition("/")[2]
    return file_name.startswith("._") or file_name == ".DS_Store"


def _is_known(name: str) -> bool:
    return _split_name(name)[1].lower() in _KNOWN


def _split_name(name: str) -> tuple[str, str]:
    """Return the name up to the first dot of its last part, and the rest: key and extension, as in webdataset."""
    folder, slash, file_name = name.rpartition("/")
    stem, _, extension = file_name.partition(".")
    return folder + slash + stem, extension


def _parse_member_name(name: str, path: Location) -> tuple[str, str]:
    """Return the key, without a leading `./`, and the extension in lower case, which may be empty."""
    stem, extension = _split_name(name)
    key = _LEADING.sub("", stem)
    is_cut = not extension and len(name.encode()) >= _NAME_FIELD_BYTES  # some writers cut what does not fit
    if is_cut or not extension.isprintable() or not is_key(key.encode()):
        raise ShardError(
            f"{path}: invalid member name {name[:_MAX_SHOWN]!r}",
            expected=f"KEY.EXTENSION in printable characters, without '..' or a leading '/'; a KEY of at most "
            f"{MAX_KEY_BYTES} bytes",
            got=repr(name[:_MAX_SHOWN]),
            do="rewrite the shard with plain keys, or without this file",
        )
    return key, extension.lower()


def _read_sample(group: _Group, path: Location) -> tuple[tuple[Any, ...], tuple[int, int], bool]:
    """Return the row of the sample table, the (height, width) of the image, and whether the age states its unit."""
    key, parts = group.key, group.parts
    images = [extension for extension in parts if extension in ENCODING_OF_EXTENSION]
    if not images:
        expected, got = "one jpg, png or npy member next to its label", f"{', '.join(parts)}, and no image next to it"
        raise _sample_error(path, key, expected, got, do=_sort_advice(path))
    label, states_age_unit = _read_label(key, {extension: part.contents for extension, part in parts.items()}, path)
    encoding, image = ENCODING_OF_EXTENSION[images[0]], parts[images[0]]
    size = image_size(image.contents, encoding, f"{path}: sample '{key}'")
    position = (image.offset, len(image.contents), crc32(image.contents))
    row = (key.encode(), *position, label.age_months, label.gender.encode(), encoding.encode())
    return row, size, states_age_unit


def _read_label(key: str, contents: dict[str, bytes], path: Location) -> tuple[Label, bool]:
    values = {extension: contents[extension] for extension in LABEL_EXTENSIONS if extension in contents}
    if ("json" in contents) == bool(values):
        do = _DEFAULT_REMEDY if values else _sort_advice(path)
        expected = "a .json member, or members like .gender and .age_months, next to the image"
        raise _sample_error(path, key, expected, ", ".join(contents), do=do)
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
    mapping = json.loads(text.decode(), parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated)
    if not isinstance(mapping, dict):
        raise ValueError(f"a JSON {type(mapping).__name__}, not an object")
    return mapping


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict; of a name that occurs twice, Python would keep the last value."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {name[:_MAX_SHOWN]!r} more than once")
    return mapping


def _sort_advice(path: Location) -> str:
    return f"add what is missing; or if its members are not next to each other, {do_about_order(str(path))}"


def _sample_error(
    path: Location,
    key: str,
    expected: object,
    got: object,
    *,
    do: str = _DEFAULT_REMEDY,
) -> ShardError:
    return ShardError(f"{path}: sample '{key}' is invalid", expected=expected, got=got, do=do)
