"""Large objects are written in parts: over slow links, through cuts, in bounded memory, and never by halves."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.answers import Request
from tests.servers.fault import Fault, fault_server
from tests.servers.link import limited_link
from tests.servers.s3 import moto_s3, s3_environment, upload_s3
from wds_bone.objects import cloud_stores, retries
from wds_bone.objects.cloud_objects import PART_BYTES, CloudObjects
from wds_bone.objects.protocol import RemoteError
from wds_bone.objects.url import parse_url

pytest.importorskip("obstore", reason="the extra `s3` is not installed")
CONTENTS = bytes(range(256)) * (2 * PART_BYTES // 256) + b"the end"
URL = parse_url("s3://uploads/set/train-000000.tar")
UPLOAD = """
import sys, tempfile, resource
from wds_bone.objects.cloud_objects import CloudObjects
from wds_bone.objects.url import parse_url
client, url = CloudObjects(), parse_url("s3://uploads/set/large")
with tempfile.TemporaryFile() as file:
    file.truncate(6 * 2**20)
    client.write(url, file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    file.truncate(int(sys.argv[1]))
    client.write(url, file)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(client.version(url).num_bytes, after - before)
"""


@contextmanager
def client_through(server: str, faults: Callable[[Request], Fault | None]) -> Iterator[CloudObjects]:
    """Open a client of a server behind a proxy."""
    with pytest.MonkeyPatch.context() as patch, fault_server(server, faults) as proxy:
        for name, value in s3_environment(proxy).items():
            patch.setenv(name, value)
        client = CloudObjects()
        yield client
        client.close()


@pytest.fixture
def server(s3_url: str, tmp_path: Path) -> str:
    """An S3 server with an empty bucket."""
    upload_s3(s3_url, tmp_path, bucket="uploads")
    with client_through(s3_url, lambda _: None) as client:
        client.delete(URL)
    return s3_url


def is_part(request: Request) -> bool:
    return request.method == "PUT" and "partNumber=" in request.query


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_upload_at=PART_BYTES // 2),
        Fault(cut_upload_at=0),
        Fault(status=503, body=b"<Code>SlowDown</Code>"),
        Fault(status=500),
    ],
    ids=["cut in a part", "cut before a part", "slow down", "internal error"],
)
def test_a_part_that_fails_is_sent_again_alone_and_nothing_is_visible_before_all_have_arrived(
    server: str, fault: Fault
):
    parts: list[str] = []
    visible: list[bool] = []

    def fail_once(request: Request) -> Fault | None:
        if not is_part(request):
            return None
        visible.append(exists(observer))
        parts.append(request.query)
        return fault if len(parts) == 1 else None

    with client_through(server, lambda _: None) as observer, client_through(server, fail_once) as client:
        client.write(URL, io.BytesIO(CONTENTS))
        assert client.read_all(URL, max_bytes=len(CONTENTS)) == CONTENTS
    assert len(parts) == 4  # three, and one of them twice
    assert len(set(parts)) == 3
    assert not any(visible)


def exists(client: CloudObjects) -> bool:
    try:
        return client.version(URL).num_bytes > 0
    except FileNotFoundError:
        return False


def test_an_upload_that_fails_for_good_ends_within_its_deadline_and_leaves_nothing(
    server: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retries, "TIMEOUT_SECONDS", 1.0)
    with client_through(server, lambda request: Fault(status=503) if is_part(request) else None) as client:
        with pytest.raises(RemoteError, match="503"):
            client.write(URL, io.BytesIO(CONTENTS))
        assert not exists(client)


@pytest.mark.fault("C7")
def test_a_store_that_takes_long_to_take_or_to_copy_an_object_is_not_asked_again(
    server: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cloud_stores, "PACE_SECONDS", 0.3)
    changes: list[str] = []

    def take_long(request: Request) -> Fault | None:
        if request.method != "PUT":
            return None
        changes.append(request.path)
        return Fault(delay_seconds=1.0)

    with client_through(server, take_long) as client:
        client.write(URL, b"short")
        client.copy(URL, URL.parent / "copy")
        assert client.read_all(URL.parent / "copy", max_bytes=5) == b"short"
    assert len(changes) == 2


@pytest.mark.fault("C2")
def test_an_upload_that_is_forbidden_ends_at_once(server: str):
    requests: list[Request] = []

    def forbid(request: Request) -> Fault | None:
        requests.append(request)
        return Fault(status=403, body=b"<Code>AccessDenied</Code>")

    with client_through(server, forbid) as client, pytest.raises(PermissionError, match="AccessDenied"):
        client.write(URL, io.BytesIO(CONTENTS))
    assert len(requests) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_large_object_takes_little_memory(server: str):
    with fault_server(server, lambda _: None) as proxy:
        growth_bytes = upload_in_process(proxy, 100 * 2**20) * (1 if sys.platform == "darwin" else 1024)
    assert growth_bytes < 60 * 2**20


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.fault("C7")
def test_a_link_that_needs_longer_for_a_part_than_for_any_answer_is_slow_but_no_error(tmp_path: Path):
    with limited_link(4) as link, moto_s3(link) as server:
        create = "import sys; from pathlib import Path; from tests.servers.s3 import upload_s3;"
        create += "upload_s3(sys.argv[1], Path(sys.argv[2]), bucket='uploads')"
        run([*link.client, sys.executable, "-c", create, server, str(tmp_path)], server)
        upload_in_process(server, 7 * 2**20, prefix=link.client)


def upload_in_process(server: str, num_bytes: int, *, prefix: tuple[str, ...] = ()) -> int:
    """Upload a file in a process of its own, and return how much more memory it took than a file of 6 MiB."""
    words = run([*prefix, sys.executable, "-c", UPLOAD, str(num_bytes)], server).split()
    assert words[0] == str(num_bytes)
    return int(words[1])


def run(command: list[str], server: str) -> str:
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))}
    ended = subprocess.run(
        command, env=environment | s3_environment(server), capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
