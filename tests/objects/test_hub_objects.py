"""Files on the Hugging Face Hub are read, here from a server that answers like it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.answers import Request
from tests.servers.fault import Fault, fault_server
from wds_bone.objects.hub_objects import HubObjects, _address
from wds_bone.objects.protocol import RemoteError
from wds_bone.objects.url import parse_url

CONTENTS = bytes(range(256)) * 100
TREE = [
    {"type": "file", "path": "set/b.tar", "size": 1, "oid": "1"},
    {"type": "file", "path": "set/a.tar", "size": 25600, "oid": "2"},
    {"type": "directory", "path": "set/folder", "oid": "3"},
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[Request], list[Request]]]:
    """The requests to a hub that requires a token and stores its files on another host, and those to that host."""
    asked: list[Request] = []
    stored: list[Request] = []
    files = tmp_path / "datasets" / "team" / "bones" / "resolve" / "main" / "set"
    listing = tmp_path / "api" / "datasets" / "team" / "bones" / "tree" / "main" / "set"
    for folder in (files, listing.parent):
        folder.mkdir(parents=True)
    (files / "a.tar").write_bytes(CONTENTS)
    (files / "manifest.json").write_bytes(b"{}")
    listing.write_text(json.dumps(TREE))
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    with fault_server(tmp_path, log=stored) as storage:

        def redirect(request: Request) -> Fault | None:
            moved = Fault(status=302, headers={"Location": f"{storage}{request.path}?signature=canary"})
            return moved if request.path.endswith(".tar") else None

        with fault_server(tmp_path, redirect, log=asked) as root:
            monkeypatch.setenv("HF_ENDPOINT", root)
            yield asked, stored


@pytest.fixture
def client() -> Iterator[HubObjects]:
    opened = HubObjects()
    yield opened
    opened.close()


def test_files_are_read_where_the_hub_stores_them(hub: tuple[list[Request], list[Request]], client: HubObjects):
    asked = hub[0]
    folder = parse_url("hf://datasets/team/bones/set")
    assert client.version(folder / "a.tar").num_bytes == len(CONTENTS)
    for start in (5, 500):
        assert client.read(folder / "a.tar", start, 1000) == CONTENTS[start : start + 1000]
    assert client.read_all(folder / "manifest.json", max_bytes=2) == b"{}"
    with client.open(folder / "a.tar") as file:
        assert file.read() == CONTENTS
    assert len(asked) == 2  # the address of a file is asked for once
    assert client.traffic.bytes_fetched == 2000 + 2 + len(CONTENTS)


@pytest.mark.fault("C11", "I2")
def test_the_token_goes_to_the_hub_only(hub: tuple[list[Request], list[Request]], client: HubObjects):
    asked, stored = hub
    client.read(parse_url("hf://datasets/team/bones/set/a.tar"), 0, 1)
    assert [request.header("Authorization") for request in asked] == ["Bearer hf_canary"]
    assert [request.header("Authorization") for request in stored] == [None]


def test_a_folder_is_listed(hub: tuple[list[Request], list[Request]], client: HubObjects):
    assert list(client.names(parse_url("hf://datasets/team/bones/set"))) == ["a.tar", "b.tar"]


@pytest.mark.fault("C2")
def test_what_cannot_be_read_is_an_error_at_once(hub: tuple[list[Request], list[Request]], client: HubObjects):
    with pytest.raises(FileNotFoundError, match="HTTP 404"):
        client.read(parse_url("hf://datasets/team/bones/set/gone"), 0, 1)
    for place in ("datasets/team", "datasets/team/bo--nes/a.tar", "datasets/team/bones..git/a.tar"):
        with pytest.raises(RemoteError, match="does not name a repository"):
            client.version(parse_url(f"hf://{place}"))
    with pytest.raises(RemoteError, match="HTTP 404"):
        client.names(parse_url("hf://datasets/team/others"))
    for change in (lambda url: client.write(url, b""), client.delete):
        with pytest.raises(RemoteError, match="hf upload"):
            change(parse_url("hf://datasets/team/bones/new"))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("hf://datasets/team/bones/a/b.tar", "datasets/team/bones/resolve/main/a/b.tar"),
        ("hf://datasets/team/bones@v1.0/b.tar", "datasets/team/bones/resolve/v1.0/b.tar"),
        ("hf://datasets/team/bones@refs/pr/3/b.tar", "datasets/team/bones/resolve/refs%2Fpr%2F3/b.tar"),
        ("hf://spaces/team/bones/b.tar", "spaces/team/bones/resolve/main/b.tar"),
        ("hf://team/bones/b.tar", "team/bones/resolve/main/b.tar"),
    ],
)
def test_the_address_of_a_file_has_its_repository_and_revision(text: str, path: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    assert _address(parse_url(text)).secret_text() == f"https://hub.example/{path}"
