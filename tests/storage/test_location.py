"""Names become locations, and files of a set are read through them."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ConfigError, ShardError
from wds_bone.storage import location
from wds_bone.storage.local import LocalStorage


@pytest.mark.fault("I1", "I2")
@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("hdfs://host/a.tar", "host"),
        ("PIPE://canary", "canary"),
        ("file://host/a.tar", "host/"),
        ("pipe:cat a.tar", "cat"),
        ("a.tar::b.tar", "b.tar"),
        ("ftp://x:y@z", "x:y"),
        ("ftp://x:y@z/{0..9", "x:y"),
    ],
)
def test_a_scheme_that_is_not_allowed_is_refused_without_its_secrets(name: str, secret: str):
    with pytest.raises(ConfigError, match=r"cannot be read|names a host") as refused:
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
    storage, buffer = LocalStorage([tar]), memoryview(bytearray(3))
    storage.read(0, 1, size=3, into=[buffer])
    storage.close()
    assert bytes(buffer) == b"234"


def test_the_size_of_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        location.file_bytes(tmp_path / "gone")


names = st.text(
    st.sampled_from("a1[]{},.*?!\\:~%$ '\"-2\u00f6") | st.characters(codec="utf-8", exclude_characters="/\0"),
    min_size=1,
)
file_names = names.map(lambda text: text + ".tar").filter(lambda name: len(os.fsencode(name)) < 250)


@given(name=file_names, others=st.lists(file_names, max_size=5))
def test_a_path_that_exists_always_means_itself(tmp_path_factory: pytest.TempPathFactory, name: str, others: list[str]):
    folder = tmp_path_factory.mktemp("names")
    for other in [*others, name]:
        (folder / other).touch()
    for spelling in (folder / name, str(folder / name), f"file://{folder / name}"):
        assert location.expand(spelling) == [folder / name]
    with working_folder(folder):
        assert location.expand(name) == location.expand(Path(name)) == [Path(name)]


@given(name=file_names)
def test_any_name_that_does_not_exist_is_expanded_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str):
    folder = tmp_path_factory.mktemp("names")
    with working_folder(folder):
        try:
            location.expand(name)
        except ConfigError as error:
            assert error.do  # noqa: PT017


@contextmanager
def working_folder(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


@pytest.mark.parametrize(
    "name",
    [
        "a\0b.tar",
        "a\ud800.tar",
        "~nobody-of-this-name/x.tar",
        "{a,b",
        "**x/*.tar",
        "{1..9" + "9" * 5000 + "}.tar",
        "{a,b}" * 40,
    ],
)
def test_a_name_that_can_be_no_path_is_refused(name: str):
    with pytest.raises(ConfigError, match="do: "):
        location.expand(name)


def test_a_name_that_is_too_long_does_not_exist():
    path = Path("x" * 300)
    assert not location.exists(path)
    assert not location.is_file(path)
    assert not location.is_folder(path)
    assert location.expand(str(path)) == [path]


def test_a_dangling_link_means_itself(tmp_path: Path):
    (tmp_path / "a1.tar").touch()
    (tmp_path / "a[1].tar").symlink_to("gone")
    assert location.expand(str(tmp_path / "a[1].tar")) == [tmp_path / "a[1].tar"]


def test_hidden_files_are_listed_and_matched_only_by_their_names(tmp_path: Path):
    for name in (".a.tar", "._b.tar", "b.tar"):
        (tmp_path / name).touch()
    assert location.list_tars(tmp_path) == location.expand(f"{tmp_path}/*.tar") == [tmp_path / "b.tar"]
    assert location.expand(f"{tmp_path}/.a.tar") == [tmp_path / ".a.tar"]


@pytest.mark.parametrize("kind", ["a named pipe", "a folder", "a device", "a socket"])
def test_anything_but_a_regular_file_is_refused_at_once(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.tar"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(tmp_path)  # the path of a socket may have at most 108 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x.tar")
    storage = LocalStorage([path])
    for read in (location.file_bytes, location.read_file, location.open_file):
        with pytest.raises(OSError, match=f"it is {kind}, not a regular file"):
            read(path)
    with pytest.raises(ShardError, match=f"it is {kind}, not a regular file"):
        storage.read(0, 0, size=1, into=[memoryview(bytearray(1))])
    storage.close()
