import copy
import hashlib
import json
import string
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wds_bone.errors import ShardError
from wds_bone.shards.manifest import (
    ImageFormat,
    Manifest,
    ShardEntry,
    SplitEntry,
    manifest_as_bytes,
    manifest_from_bytes,
    read_manifest,
    write_manifest,
)

SHA = "0123456789abcdef" * 4
SMALL = Manifest(
    ImageFormat("jpg", 16, 16, quality=95, fit="letterbox", stretch=(1.0, 99.5)),
    {
        "val": SplitEntry(
            3, {"genders": {"F": 1, "M": 2}}, (ShardEntry("val-000000.tar", 3, 10240, SHA, SHA),), SHA, SHA
        )
    },
)

COMPLETE = replace(
    SMALL,
    splits={
        "val": replace(
            SMALL.splits["val"],
            labels={
                "age_months": {"mean": 30.5, "sd": 1.5, "min": 1.0, "max": 40.0},
                "genders": {"F": 1, "M": 2},
                "age_histogram": {"F": [1] + 19 * [0], "M": [0, 0, 1, 1] + 16 * [0]},
            },
        )
    },
)

sha256s = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.text(string.ascii_letters + string.digits + "_-. ()=+ö", max_size=20).map(lambda text: f"a{text}.tar")
shard_entries = st.builds(ShardEntry, names, st.integers(0, 2**40), st.integers(1024, 2**60), sha256s, sha256s)


def split_of(shards: list[ShardEntry]) -> SplitEntry:
    girls = [sum(shard.num_samples for shard in shards), *19 * [0]]
    labels = {
        "age_months": {"mean": 1.5, "sd": 0.0, "min": 1.5, "max": 1.5},
        "genders": {"F": girls[0], "M": 0},
        "age_histogram": {"F": girls, "M": 20 * [0]},
    }
    return SplitEntry(girls[0], labels, tuple(shards))


split_entries = (
    st.lists(shard_entries, max_size=4, unique_by=lambda shard: shard.name)
    .filter(lambda shards: any(shard.num_samples for shard in shards))
    .map(split_of)
)
images = st.builds(
    ImageFormat,
    st.sampled_from(["jpg", "png", "npy", None]),
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.none() | st.integers(1, 100),
    st.sampled_from(["letterbox", "letterbox at reading", None]),
    st.none() | st.tuples(st.floats(0, 50), st.floats(51, 100)),
)
splits = st.dictionaries(st.text("abc", min_size=1), split_entries, min_size=1, max_size=3)
manifests = st.builds(Manifest, images, splits).filter(
    lambda manifest: len(manifest.shard_entries) == sum(len(split.shards) for split in manifest.splits.values())
)


@given(manifests)
def test_a_manifest_survives_a_round_trip(manifest):
    text = manifest_as_bytes(manifest)
    assert manifest_from_bytes(text, "manifest.json") == manifest
    assert manifest_as_bytes(manifest_from_bytes(text, "manifest.json")) == text


def test_the_bytes_of_a_manifest_never_change_between_versions():
    # Manifests of every version since 0.1.0 must be readable. This digest may change only together with FORMAT_VERSION.
    golden = "5781f337212193cc10becbc084c03dc82ef56cbd2c9c23bbaa8a5200e70c4bab"
    assert hashlib.sha256(manifest_as_bytes(SMALL)).hexdigest() == golden


@pytest.mark.fault("D7")
def test_every_flipped_bit_is_detected():
    text = manifest_as_bytes(SMALL)
    for bit in range(8 * len(text)):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ShardError, match=r"manifest\.json"):
            manifest_from_bytes(bytes(flipped), "manifest.json")


@pytest.mark.fault("D7")
def test_truncation_at_any_byte_is_detected():
    text = manifest_as_bytes(SMALL)
    for length in range(len(text)):
        with pytest.raises(ShardError, match=r"manifest\.json"):
            manifest_from_bytes(text[:length], "manifest.json")


@pytest.mark.fault("D7")
@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace(b'"num_samples": 3', b'"num_samples": 4'),
        lambda text: text + b"\n",
        lambda text: b" " + text,
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: text.replace(b'"height": 16', b'"height": 16, "height": 16'),
    ],
)
def test_a_manual_edit_is_detected(edit):
    with pytest.raises(ShardError, match="changed since it was written"):
        manifest_from_bytes(edit(manifest_as_bytes(SMALL)), "manifest.json")


@pytest.mark.fault("D7")
@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{}", b'{"version": 1}', b"[" * 100_000, b"\xff"])
def test_a_file_that_is_not_a_manifest_is_refused(text: bytes):
    with pytest.raises(ShardError, match=r"manifest\.json"):
        manifest_from_bytes(text, "manifest.json")


@pytest.mark.fault("D7")
def test_another_version_is_refused_with_both_versions():
    with pytest.raises(ShardError, match=r"version 1(?s:.*)version 7"):
        manifest_from_bytes(manifest_as_bytes(SMALL).replace(b'"version": 1', b'"version": 7'), "manifest.json")


@pytest.mark.fault("I3", "D7")
@pytest.mark.parametrize(
    "name",
    [
        "../train.tar",
        "/etc/train.tar",
        "a/train.tar",
        ".hidden.tar",
        "..tar",
        "train.zip",
        "a\n.tar",
        "a\udcff.tar",
        250 * "a" + ".tar",
    ],
)
def test_unsafe_shard_names_are_refused(name: str):
    shard = replace(COMPLETE.splits["val"].shards[0], name=name)
    manifest = replace(COMPLETE, splits={"val": replace(COMPLETE.splits["val"], shards=(shard,))})
    with pytest.raises(ShardError, match="not a complete manifest"):
        manifest_from_bytes(manifest_as_bytes(manifest), "manifest.json")


@pytest.mark.fault("D7")
def test_counts_that_do_not_add_up_are_refused():
    manifest = replace(COMPLETE, splits={"val": replace(COMPLETE.splits["val"], num_samples=4)})
    with pytest.raises(ShardError, match="not the sum"):
        manifest_from_bytes(manifest_as_bytes(manifest), "manifest.json")


def test_a_missing_manifest_is_an_error_with_its_path(tmp_path):
    with pytest.raises(ShardError, match=r"manifest\.json: cannot be read"):
        read_manifest(tmp_path / "manifest.json")
    assert read_manifest(write_manifest(tmp_path, COMPLETE)) == COMPLETE


def resealed(contents: dict[str, Any]) -> bytes:
    """Return the text of a manifest with these contents and the digest that belongs to them."""
    text = (json.dumps(contents, indent=1, sort_keys=True) + "\n").encode()
    digest = {"sha256": hashlib.sha256(text).hexdigest()}
    return (json.dumps(contents | digest, indent=1, sort_keys=True) + "\n").encode()


def contents_of(manifest: Manifest) -> dict[str, Any]:
    contents = json.loads(manifest_as_bytes(manifest))
    del contents["sha256"]
    return contents


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in nested JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for name, each in inner for found in paths_in(each, (*path, name)))]


def changed(contents: dict[str, Any], path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    contents = copy.deepcopy(contents)
    target: Any = contents
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return contents


odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -1, 0, 1e308, 1.0, float("nan"), float("inf"), "", "xyz", "\0", "\ud800", [], {}, [[]]]),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2), max_leaves=3),
)


@pytest.mark.fault("D7")
@settings(max_examples=250)
@given(st.data())
def test_a_changed_manifest_with_a_new_digest_is_refused_or_means_what_it_says(data: st.DataObject):
    contents = contents_of(COMPLETE)
    path = data.draw(st.sampled_from(paths_in(contents)))
    edited = changed(contents, path, data.draw(odd_values))
    text = resealed(edited) if isinstance(edited, dict) else json.dumps(edited).encode()
    try:
        manifest = manifest_from_bytes(text, "manifest.json")
    except ShardError as error:
        assert "manifest.json" in error.problem  # noqa: PT017
        assert error.do  # noqa: PT017
    else:
        assert manifest_as_bytes(manifest) == text
        assert manifest.image.height >= 1
        assert all(type(shard.num_samples) is int for shard in manifest.shard_entries.values())


@pytest.mark.fault("D7")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("image", "height"), -4),
        (("image", "height"), True),
        (("image", "width"), 2**40),
        (("image", "encoding"), "xyz"),
        (("image", "stretch"), [1]),
        (("image", "extra"), 1),
        (("splits", "val", "num_samples"), 3.0),
        (("splits", "val", "labels"), {}),
        (("splits", "val", "labels", "genders", "F"), 2),
        (("splits", "val", "labels", "age_histogram", "M"), [3]),
        (("splits", "val", "labels", "age_months", "mean"), float("nan")),
        (("splits", "val", "shards", 0, "shard_bytes"), 10**40),
        (("splits", "val", "shards", 0, "num_samples"), True),
        (("splits", "val", "shards", 0, "sha256"), "0" * 63),
        (("splits", "val", "shards"), None),
        (("splits", "val", "plan"), 7),
        (("splits", ""), contents_of(COMPLETE)["splits"]["val"]),
        (("splits", "train"), contents_of(COMPLETE)["splits"]["val"]),  # the same shard twice
        (("splits",), [1]),
        (("splits",), {}),
        (("groups",), {"val-000000.tar": "zz"}),
        (("groups",), {"val-000000.tar": None}),
        (("groups",), 5),
        (("version",), True),
        (("more",), 1),
    ],
)
def test_a_value_out_of_range_is_refused_even_with_its_digest(path: tuple[Any, ...], value: object):
    with pytest.raises(ShardError, match=r"manifest\.json: (not a complete manifest|unsupported format)"):
        manifest_from_bytes(resealed(changed(contents_of(COMPLETE), path, value)), "manifest.json")


@pytest.mark.fault("D7")
@pytest.mark.parametrize("depth", [100, 250, 300, 400, 900, 5_000, 100_000])
def test_nesting_of_any_depth_is_refused(depth: int):
    text = b'{"version": 1, "format": "wds_bone", "sha256": "", "image": ' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(ShardError, match=r"manifest\.json"):
        manifest_from_bytes(text, "manifest.json")
