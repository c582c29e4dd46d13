import json
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from tests.shards.tars import LABEL, header, image, sample, tar_of
from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.shards.scan import ScannedShard, scan_shard


def scan(members: list[tuple[str, bytes]], folder: Path) -> ScannedShard:
    path = folder / "shard.tar"
    path.write_bytes(tar_of(members))
    return scan_shard(path)


def test_a_row_locates_the_bytes_of_its_image(tmp_path: Path):
    shard = scan([*sample("hand-1"), ("hand-2.json", LABEL), ("hand-2.jpg", image(8, "jpg"))], tmp_path)
    contents = (tmp_path / "shard.tar").read_bytes()
    assert shard.table["key"].tolist() == [b"hand-1", b"hand-2"]
    assert shard.table["encoding"].tolist() == [b"npy", b"jpg"]
    assert shard.image_sizes == {(4, 4), (8, 8)}
    for row, expected in zip(shard.table, [image(), image(8, "jpg")], strict=True):
        assert contents[row["offset"] : row["offset"] + row["size"]] == expected
        assert (row["age_months"], row["gender"]) == (94, b"F")


@pytest.mark.parametrize(
    "label",
    [
        [("json", b'{"gender": "M", "age_months": 94, "hospital": [1, {"a": null}]}')],
        [("json", b'{"male": true, "boneage": 94}')],
        [("gender", b"M"), ("age", b"94")],
        [("male", b"True"), ("age_months", b"94.0")],
    ],
)
def test_label_members_are_read_in_every_accepted_spelling(tmp_path: Path, label):
    shard = scan([("a/1.png", image(4, "png")), *((f"a/1.{name}", text) for name, text in label)], tmp_path)
    (row,) = shard.table
    assert (row["key"], row["gender"], row["age_months"]) == (b"a/1", b"M", 94)


def test_a_shard_of_plain_webdataset_is_read(tmp_path: Path):
    with webdataset.ShardWriter(str(tmp_path / "train-%06d.tar"), maxcount=3, verbose=0) as writer:
        for number in range(5):
            picture = np.full((9, 7), number, np.uint8)
            writer.write({"__key__": f"{number}", "png": picture, "json": {"male": number % 2 == 1, "boneage": number}})
    first, second = (scan_shard(tmp_path / f"train-{number:06d}.tar") for number in range(2))
    assert [*first.table["age_months"], *second.table["age_months"]] == [0, 1, 2, 3, 4]
    assert first.image_sizes == {(9, 7)}


BAD_SAMPLES = {
    "an image under a key with a dot": [("hand.1.png", image(4, "png")), ("hand.1.json", LABEL)],
    "jpg and jpeg": [("hand-1.jpg", image(8, "jpg")), ("hand-1.JPEG", image(8, "jpg")), ("hand-1.json", LABEL)],
    "the same member with and without ./": [*sample(), ("./hand-1.json", LABEL)],
    "a key of 201 bytes": sample("hand" + "x" * 197),
    "a folder named ..": sample("a/../hand-1"),
    "an absolute path behind ./": sample(".//hand-1"),
    "two images": [*sample(), ("hand-1.png", image(4, "png"))],
    "no image": [("hand-1.json", LABEL)],
    "no label": [("hand-1.npy", image())],
    "two labels": [*sample(), ("hand-1.age", b"94"), ("hand-1.gender", b"F")],
    "half a label": [("hand-1.npy", image()), ("hand-1.age", b"94")],
    "the same member twice": [*sample(), ("hand-1.json", LABEL)],
    "a repeated key": [*sample("hand-1"), *sample("hand-2"), *sample("hand-1")],
    "members that are not neighbors": [sample("hand-1")[0], *sample("hand-2"), sample("hand-1")[1]],
    "a path with a parent folder": sample("../hand-1"),
    "an absolute path": sample("/hand-1"),
    "a control character": sample("hand\n1"),
    "no key": [(".json", LABEL)],
    "an image in another format": [("hand-1.png", b"GIF89a"), ("hand-1.json", LABEL)],
    "an array of floats": [("hand-1.npy", image().replace(b"|u1", b"<f4")), ("hand-1.json", LABEL)],
}


@pytest.mark.fault("D4", "I3")
@pytest.mark.parametrize("members", BAD_SAMPLES.values(), ids=BAD_SAMPLES.keys())
def test_an_invalid_sample_is_refused_with_its_name(tmp_path: Path, members):
    with pytest.raises(WdsBoneError) as caught:
        scan(members, tmp_path)
    assert "shard.tar" in caught.value.problem
    assert "hand" in str(caught.value) or ".json" in str(caught.value)
    assert caught.value.do


def png_header(height: int, width: int) -> bytes:
    return image(4, "png")[:16] + struct.pack(">II", width, height) + image(4, "png")[24:]


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(16)


@pytest.mark.fault("D3")
@pytest.mark.parametrize(
    ("name", "contents", "problem"),
    [
        ("png", png_header(60_000, 60_000), "the image is too large"),
        ("png", png_header(0, 4), "the image is empty"),
        ("npy", npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 4)}"), "the image is empty"),
        ("npy", npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, -4)}"), "the image is empty"),
        ("npy", npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 4)"), "the image cannot be read"),
        ("npy", npy_header("{'descr': '|u1', ("), "the image cannot be read"),
        ("npy", npy_header("(" * 1000), "the image cannot be read"),
        ("npy", npy_header("-" * 9000 + "1"), "the image cannot be read"),
        ("npy", npy_header("{1: 2, 'shape': 3, 'descr': 4}"), "the image cannot be read"),
        ("npy", npy_header("  x\n y"), "the image cannot be read"),
    ],
)
def test_an_image_with_an_impossible_header_is_refused(tmp_path: Path, name: str, contents: bytes, problem: str):
    with pytest.raises(WdsBoneError, match=rf"shard\.tar: sample 'hand-1': {problem}"):
        scan([(f"hand-1.{name}", contents), ("hand-1.json", LABEL)], tmp_path)


@pytest.mark.fault("C1")
def test_the_error_for_an_unreadable_shard_gives_path_cause_and_remedy(tmp_path: Path):
    with pytest.raises(ShardError, match=r"train\.tar: cannot be read: No such file(?s:.*)do: "):
        scan_shard(tmp_path / "train.tar")


@pytest.mark.parametrize(
    ("label", "is_stated"),
    [
        ({"gender": "F", "age_months": 94}, True),
        ({"gender": "F", "age years": 7}, True),
        ({"gender": "F", "age": 94}, False),
        ({"male": False, "boneage": 94}, False),
    ],
)
def test_a_scan_reports_whether_every_age_states_its_unit(tmp_path: Path, label: dict[str, object], is_stated: bool):
    second = [("hand-2.npy", image()), ("hand-2.json", json.dumps(label).encode())]
    assert scan([*sample("hand-1"), *second], tmp_path).states_age_unit == is_stated


BAD_LABELS = {
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "a list": b"[1]",
    "NaN": b'{"gender": "F", "age_months": NaN}',
    "infinity": b'{"gender": "F", "age_months": Infinity}',
    "no gender": b'{"age_months": 94}',
    "no age": b'{"gender": "F"}',
    "an impossible age": b'{"gender": "F", "age_months": 1000}',
    "an age that is an object": b'{"gender": "F", "age_months": {}}',
    "two genders of the same name": b'{"gender": "F", "age_months": 94, "gender": "M"}',
    "an unknown gender": b'{"gender": "x", "age_months": 94}',
    "an ambiguous flag": b'{"gender": 1, "age_months": 94}',
    "deep nesting": b"[" * 60_000,
    "an oversized label": b'{"gender": "F", "age_months": 94, "x": "' + b"x" * 70_000 + b'"}',
}


@pytest.mark.fault("D6")
@pytest.mark.parametrize("label", BAD_LABELS.values(), ids=BAD_LABELS.keys())
def test_an_invalid_label_is_refused_with_shard_and_sample(tmp_path: Path, label: bytes):
    with pytest.raises(WdsBoneError, match=r"shard\.tar: sample 'hand-1'"):
        scan([("hand-1.npy", image()), ("hand-1.json", label)], tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
label_like = st.dictionaries(
    st.sampled_from(["gender", "male", "sex", "age", "boneage", "age_months", "x"]), json_values
)


@pytest.mark.fault("D6")
@given(label_like)
def test_any_json_gives_a_label_or_an_error_that_names_the_sample(tmp_path_factory, label):
    text = json.dumps(label).encode()
    try:
        (row,) = scan([("hand-1.npy", image()), ("hand-1.json", text)], tmp_path_factory.mktemp("json")).table
    except WdsBoneError as error:
        assert "sample 'hand-1'" in str(error)  # noqa: PT017
    else:
        assert 0 <= row["age_months"] <= 240
        assert row["gender"] in (b"F", b"M")


@pytest.mark.fault("D4", "I1")
def test_other_members_are_ignored_counted_and_never_looked_at(tmp_path: Path):
    others = [
        ("hand-1.txt", b"x"),
        ("hand-1.pth", b"cos\nsystem\n"),
        ("hand-1.mask.png", b"x"),
        ("notes.TXT", b""),
        ("LICENSE", b""),
    ]
    metadata = [("._hand-1.npy", b"x"), ("a/.DS_Store", b"x"), ("a/._hand-2.json", b"x")]
    image_member, label = sample()
    shard = scan([image_member, others[0], metadata[0], label, *others[1:], *metadata[1:], *sample("hand-2")], tmp_path)
    assert shard.table["key"].tolist() == [b"hand-1", b"hand-2"]
    assert shard.ignored == {".txt": 2, ".pth": 1, ".mask.png": 1, "without extension": 1, "macOS metadata": 3}
    assert {name for parts in shard.components for _, _, _, name in parts} == {
        "hand-1.npy",
        "hand-1.json",
        "hand-2.npy",
        "hand-2.json",
    }


def test_a_leading_dot_slash_is_no_part_of_the_key(tmp_path: Path):
    assert scan(sample("./hand-1"), tmp_path).table["key"].tolist() == [b"hand-1"]
    assert scan(sample("./a/hand-1"), tmp_path).table["key"].tolist() == [b"a/hand-1"]


@pytest.mark.fault("D3")
def test_the_members_of_one_key_need_no_memory_beyond_one_sample(tmp_path: Path):
    path = tmp_path / "shard.tar"
    with path.open("wb") as shard:
        for number in range(60):
            shard.write(tar_of([(f"hand-1.part{number}", bytes(2**20))])[: -2 * 512])
        shard.write(tar_of(sample()))
    tracemalloc.start()
    scanned = scan_shard(path)
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    assert sum(scanned.ignored.values()) == 60
    assert len(scanned.ignored) <= 21


names = st.sampled_from(
    ["1.json", "1.npy", "2.json", "2.npy", "2.png", "3.jpg", "3.json", "1.txt", "x/1.npy", "x/1.json"]
)


@pytest.mark.fault("D4")
@given(st.lists(names, max_size=8))
def test_any_sequence_of_members_gives_whole_samples_or_an_error(tmp_path_factory, sequence):
    contents = {"json": LABEL, "npy": image(), "png": image(4, "png"), "jpg": image(4, "jpg"), "txt": b""}
    folder = tmp_path_factory.mktemp("members")
    try:
        shard = scan([(name, contents[name.split(".")[1]]) for name in sequence], folder)
    except ShardError as error:
        assert "shard.tar" in str(error)  # noqa: PT017
    else:
        assert 2 * len(shard.table) + shard.ignored.get(".txt", 0) == len(sequence)
        assert len(set(shard.table["key"].tolist())) == len(shard.table)


SCAN = """
import sys
from pathlib import Path
from wds_bone.shards.scan import scan_shard

print("scanning", flush=True)
scan_shard(Path(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_scan_is_answered_within_seconds(tmp_path: Path, number: signal.Signals):
    with (tmp_path / "shard.tar").open("wb") as shard:
        shard.write(header(b"hand-1.bin", b"77777777777\0"))
        shard.truncate(2**33)  # a hole, which takes no space
    with subprocess.Popen([sys.executable, "-c", SCAN, tmp_path / "shard.tar"], stdout=-1, stderr=-1) as process:
        try:
            process.stdout.readline()
            time.sleep(0.5)
            process.send_signal(number)
            began = time.monotonic()
            process.wait(timeout=60)
            assert time.monotonic() - began < 10  # at once on an idle machine
        finally:
            process.kill()
    assert process.returncode in (-number, 128 + number, 1)
