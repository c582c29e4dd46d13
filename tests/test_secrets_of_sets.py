"""Nothing that is printed or written when a set is made, indexed or verified contains a secret, nor a command line."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote

import pytest

from tests.servers.answers import Request
from tests.servers.azure import ACCOUNT, sas_token, upload_azure
from tests.servers.fault import Fault, fault_server
from tests.servers.s3 import s3_environment, upload_s3
from tests.servers.upload import upload
from tests.sharding.film_sets import DEADLINE_SECONDS, finish, start, write_films
from tests.test_secrets import (
    CANARIES,
    PASSWORD,
    SIGNATURE,
    URL,
    USER,
    assert_no_secret,
    assert_no_secret_below,
    refuse_strangers,
)
from wds_bone.__main__ import main
from wds_bone.objects.clients import client_of, close_clients
from wds_bone.objects.url import parse_url

pytest.importorskip("obstore", reason="the extra `s3` is not installed")
pytestmark = pytest.mark.fault("I2")
SAS = sas_token()
SAS_CANARIES = [parse_qs(SAS)["sig"][0], quote(parse_qs(SAS)["sig"][0], safe=""), "sig="]
SETTINGS = ["--size", "16", "--encoding", "png", "--samples-per-shard", "4"]
SKIP = ["--on-bad", "skip", "--max-bad", "1"]


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_"))]:
        monkeypatch.delenv(name)
    close_clients()
    yield
    close_clients()


@contextmanager
def azure_through_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Request]]:
    """Send what goes to an Azure server through a proxy, and yield the requests; only the URLs hold credentials."""
    requests: list[Request] = []
    host = server.removesuffix(f"/{ACCOUNT}")
    with fault_server(host, lambda request: delete_batch(request, host), log=requests) as proxy:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{proxy}/{ACCOUNT}")
        close_clients()
        yield requests


def delete_batch(request: Request, host: str) -> Fault | None:
    """Answer a request that deletes many objects with a signature, which azurite answers with status 500."""
    if "comp=batch" not in request.query:
        return None
    parts = []
    for number, target in enumerate(re.findall(r"DELETE (\S+) HTTP", request.body.decode())):
        try:
            upload(f"{host}{target}", method="DELETE", headers={"x-ms-version": "2021-12-02"})
            status = "202 Accepted"
        except HTTPError as error:
            status = f"{error.code} {error.reason}"
        parts.append(
            f"--b\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\nHTTP/1.1 {status}\r\n\r\n\r\n"
        )
    return Fault(202, "".join([*parts, "--b--\r\n"]).encode(), {"Content-Type": "multipart/mixed; boundary=b"})


@contextmanager
def command_lines_of_children() -> Iterator[set[str]]:
    """Yield the command lines that the child processes of this one have while the block runs."""
    found, ended = set[str](), threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            for children in Path("/proc/self/task").glob("*/children"):
                for child in children.read_text().split():
                    found.add(command_line_of(child))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def command_line_of(process: str) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def make(*arguments: str) -> int:
    return main(["make-shards", *SETTINGS, *arguments])


def written_bodies(requests: list[Request]) -> list[bytes]:
    bodies = [request.body for request in requests if request.method == "PUT" and request.body]
    assert bodies
    return bodies


def break_film(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40].ljust(path.stat().st_size, b"\0"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system has no /proc")
def test_a_set_made_with_signed_urls_contains_no_signature_and_no_output_does(
    tmp_path: Path, azure_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("tests.test_secrets.CANARIES", [*CANARIES, *SAS_CANARIES])
    write_films(tmp_path / "films", 12)
    break_film(tmp_path / "films" / "hand-5.png")
    upload_azure(azure_url, tmp_path / "films", container="secrets", prefix="films/")
    films = ["--labels", f"az://secrets/films/labels.csv?{SAS}", "--images", f"az://secrets/films?{SAS}"]
    out = f"az://secrets/set?{SAS}"
    with azure_through_proxy(azure_url, monkeypatch) as requests, command_lines_of_children() as command_lines:
        assert make(*films, "--out", out) == 2  # a bad film
        assert make(*films, "--out", out, *SKIP, "--workers", "2") == 0
        assert make(*films, "--out", out, *SKIP, "--seed", "3") == 2  # another set
        assert main(["verify", out]) == main(["index", out]) == 0
        refuse_in_every_way(films, out)
    printed = capfd.readouterr()
    assert "az://secrets/set?..." in printed.out
    assert "hand-5.png" in printed.err
    assert any("forkserver" in line for line in command_lines)
    for text in (printed.out, printed.err, *command_lines, *written_bodies(requests)):
        assert_no_secret(text, "what was printed, started or written")


def refuse_in_every_way(films: list[str], out: str) -> None:
    """Make mistakes with the URLs, of which each is an error."""
    lock = parse_url(out) / "make_shards.lock"
    client_of(lock).write(lock, b"process 1 on another.host\n")
    assert make(*films, "--out", out) == 2
    client_of(lock).delete(lock)
    for part, wrong in (("sig=", "sig=x"), ("//secrets", "//none"), ("/set?", "/set/x.tar?"), ("az:", "hf:")):
        assert make("--synthetic", "8", "--out", out.replace(part, wrong)) == 2
    for part, wrong in (("sig=", "sig=x"), ("//secrets", "//none"), ("labels", "missing"), ("az://secrets", "ftp://s")):
        assert make(films[0], films[1].replace(part, wrong), *films[2:], "--out", out) == 2
        assert make(*films[:3], films[3].replace(part, wrong).replace("films", "none"), "--out", out) == 2
        assert main(["verify", out.replace(part, wrong).replace("set", "missing")]) == 2
        assert main(["index", out.replace(part, wrong).replace("set", "missing")]) == 2


def test_a_set_made_with_keys_and_a_password_contains_none_of_them_and_no_output_does(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    write_films(tmp_path / "films", 12)
    upload_s3(s3_url, tmp_path / "films", bucket="secrets", prefix="films/")
    requests: list[Request] = []
    with fault_server(s3_url, log=requests) as proxy, fault_server(tmp_path / "films", refuse_strangers) as labels:
        for name, value in s3_environment(proxy).items():
            monkeypatch.setenv(name, value)
        host = labels.removeprefix("http://")
        table = f"http://{USER}:{PASSWORD}@{host}/labels.csv?sig={SIGNATURE}"
        images = ["--images", "s3://secrets/films"]
        assert make("--labels", table, *images, "--out", "s3://secrets/set") == 0
        assert make("--labels", table, *images, "--out", str(tmp_path / "out"), "--workers", "2") == 0
        for part, wrong in (("labels", "missing"), (SIGNATURE, f"x{SIGNATURE}"), (PASSWORD, f"x#{PASSWORD}")):
            assert make("--labels", table.replace(part, wrong), *images, "--out", str(tmp_path / "none")) == 2
        assert make("--labels", table, "--images", URL, "--out", "s3://none/set") == 2
        assert make("--labels", table, *images, "--out", "s3://none/set") == 2
        assert main(["index", "s3://secrets/set"]) == main(["verify", "s3://secrets/set"]) == 0
        assert main(["index", "s3://secrets/films"]) == 2
    printed = capfd.readouterr()
    for text in (printed.out, printed.err, *written_bodies(requests)):
        assert_no_secret(text, "what was printed or written")
    assert_no_secret_below(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_logs_of_a_cluster_contain_no_secret(tmp_path: Path, azure_url: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    from tests.sharding.clusters import running_scheduler

    monkeypatch.setattr("tests.test_secrets.CANARIES", [*CANARIES, *SAS_CANARIES])
    write_films(tmp_path / "films", 12)
    break_film(tmp_path / "films" / "hand-5.png")
    upload_azure(azure_url, tmp_path / "films", container="secrets", prefix="cluster/")
    urls = ["--labels", f"az://secrets/cluster/labels.csv?{SAS}", "--images", f"az://secrets/cluster?{SAS}"]
    (tmp_path / "scheduler").mkdir()
    with (
        azure_through_proxy(azure_url, monkeypatch),
        running_scheduler(tmp_path / "scheduler") as scheduler,
        scheduler.workers(1),
    ):
        command = [*urls, *SETTINGS, "--scheduler", scheduler.address]
        process = start(f"az://secrets/by-cluster?{SAS}", *command)  # type: ignore[arg-type]
        status, out, err = finish(process, seconds=4 * DEADLINE_SECONDS)
    assert status == 2
    assert "hand-5.png" in err
    assert_no_secret(out + err, "output")
    assert_no_secret_below(tmp_path / "scheduler")
