import hashlib
import json
import string
from dataclasses import replace

import pytest
from hypothesis import given
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

sha256s = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.text(string.ascii_letters + string.digits + "_-.", max_size=20).map(lambda text: f"a{text}.tar")
shard_entries = st.builds(ShardEntry, names, st.integers(0, 2**40), st.integers(0, 2**60), sha256s, sha256s)
split_entries = st.lists(shard_entries, max_size=4).map(
    lambda shards: SplitEntry(sum(shard.num_samples for shard in shards), {"mean": 1.5}, tuple(shards))
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
manifests = st.builds(Manifest, images, st.dictionaries(st.text("abc", min_size=1), split_entries, max_size=3))


@given(manifests)
def test_a_manifest_survives_a_round_trip(manifest):
    text = manifest_as_bytes(manifest)
    assert manifest_from_bytes(text, "manifest.json") == manifest
    assert manifest_as_bytes(manifest_from_bytes(text, "manifest.json")) == text


def test_the_bytes_of_a_manifest_never_change_between_versions():
    # Manifests of every version since 0.1.0 must be readable. This digest may change only together with FORMAT_VERSION.
    golden = "5781f337212193cc10becbc084c03dc82ef56cbd2c9c23bbaa8a5200e70c4bab"
    assert hashlib.sha256(manifest_as_bytes(SMALL)).hexdigest() == golden


def test_every_flipped_bit_is_detected():
    text = manifest_as_bytes(SMALL)
    for bit in range(8 * len(text)):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ShardError, match=r"manifest\.json"):
            manifest_from_bytes(bytes(flipped), "manifest.json")


def test_truncation_at_any_byte_is_detected():
    text = manifest_as_bytes(SMALL)
    for length in range(len(text)):
        with pytest.raises(ShardError, match=r"manifest\.json"):
            manifest_from_bytes(text[:length], "manifest.json")


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


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{}", b'{"version": 1}', b"[" * 100_000, b"\xff"])
def test_a_file_that_is_not_a_manifest_is_refused(text: bytes):
    with pytest.raises(ShardError, match=r"manifest\.json"):
        manifest_from_bytes(text, "manifest.json")


def test_another_version_is_refused_with_both_versions():
    with pytest.raises(ShardError, match=r"version 1(?s:.*)version 7"):
        manifest_from_bytes(manifest_as_bytes(SMALL).replace(b'"version": 1', b'"version": 7'), "manifest.json")


@pytest.mark.parametrize(
    "name", ["../train.tar", "/etc/train.tar", "a/train.tar", ".hidden.tar", "train.zip", "a b.tar"]
)
def test_unsafe_shard_names_are_refused(name: str):
    shard = replace(SMALL.splits["val"].shards[0], name=name)
    manifest = replace(SMALL, splits={"val": replace(SMALL.splits["val"], shards=(shard,))})
    with pytest.raises(ShardError, match="not a complete manifest"):
        manifest_from_bytes(manifest_as_bytes(manifest), "manifest.json")


def test_counts_that_do_not_add_up_are_refused():
    manifest = replace(SMALL, splits={"val": replace(SMALL.splits["val"], num_samples=4)})
    with pytest.raises(ShardError, match="not the sum"):
        manifest_from_bytes(manifest_as_bytes(manifest), "manifest.json")


def test_a_missing_manifest_is_an_error_with_its_path(tmp_path):
    with pytest.raises(ShardError, match=r"manifest\.json: cannot be read"):
        read_manifest(tmp_path / "manifest.json")
    assert read_manifest(write_manifest(tmp_path, SMALL)) == SMALL
