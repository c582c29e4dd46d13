"""Names become locations, and files of a set are read through them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ConfigError
from wds_bone.storage import location


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("http://host/a.tar", "host"),
        ("s3://bucket/a", "bucket"),
        ("pipe:cat a.tar", "cat"),
        ("a.tar::b.tar", "b.tar"),
        ("ftp://x:y@z", "x:y"),
        ("ftp://x:y@z/{0..9", "x:y"),
    ],
)
def test_a_scheme_that_is_not_allowed_is_refused_without_its_secrets(name: str, secret: str):
    with pytest.raises(ConfigError, match="not a local path") as refused:
        location.expand(name)
    assert secret not in str(refused.value)


def test_a_path_and_a_file_url_are_the_same_location(tmp_path: Path):
    assert location.parse_location(str(tmp_path)) == location.parse_location(f"file://{tmp_path}") == tmp_path
    assert location.parse_location("~/shards") == Path.home() / "shards"


@given(first=st.integers(0, 20), count=st.integers(1, 30))
def test_braces_expand_in_order(first: int, count: int):
    found = location.expand(f"set/train-{{{first:06d}..{first + count - 1:06d}}}.tar")
    assert [path.name for path in found] == [f"train-{number:06d}.tar" for number in range(first, first + count)]


@pytest.mark.parametrize("pattern", ["{0..999999999}", "{-2000000000..-1}", "{0..9999}{0..9999}", "{0..999999999..2}"])
def test_too_many_names_are_refused_before_they_are_expanded(pattern: str):
    with pytest.raises(ConfigError, match="too many shards"):
        location.expand(f"train-{pattern}.tar")


def test_a_step_reduces_the_number_of_names():
    assert [path.name for path in location.expand("train-{0..2000000..1000000}.tar")] == [
        f"train-{number}.tar" for number in (0, 1000000, 2000000)
    ]


@pytest.mark.parametrize("name", ["file:///data/a::b/x.tar", "file://~/x.tar", "~/x.tar", "/data/x.tar"])
def test_a_name_without_a_pattern_expands_to_its_location(name: str):
    assert location.expand(name) == [location.parse_location(name)]


def test_a_file_is_read_sized_listed_and_identified(tmp_path: Path):
    tar = tmp_path / "b.tar"
    tar.write_bytes(b"12345")
    (tmp_path / "a.tar").symlink_to(tar)
    assert location.list_tars(tmp_path) == [tmp_path / "a.tar", tar]
    assert location.identity(tmp_path / "a.tar") == location.identity(tar)
    assert location.file_bytes(tar) == len(location.read_file(tar)) == 5
    with location.open_file(tar) as file:
        assert file.read(2) == b"12"
    kinds = [(location.exists(path), location.is_file(path), location.is_folder(path)) for path in (tar, tmp_path)]
    assert kinds == [(True, True, False), (True, False, True)]
    assert not location.exists(tmp_path / "gone")
    storage, buffer = location.open_storage([tar]), memoryview(bytearray(3))
    storage.read(0, 1, size=3, into=[buffer])
    storage.close()
    assert bytes(buffer) == b"234"


def test_the_size_of_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        location.file_bytes(tmp_path / "gone")
