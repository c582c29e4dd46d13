"""Test that nothing that is written or printed contains the secrets of a URL: everything is searched for canaries."""

import base64
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.learn.runs import train_argv, write_small_set
from tests.servers.answers import Request
from tests.servers.fault import Fault, fault_server
from tests.servers.s3 import ACCESS_KEY, SECRET_KEY, moto_s3, s3_environment, upload_s3
from wds_bone import BoneAgeStream
from wds_bone.__main__ import main
from wds_bone.errors import WdsBoneError
from wds_bone.objects import retries

USER, PASSWORD, SIGNATURE = "canary-user", "canary-password", "canary-signature"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CANARIES = [USER, PASSWORD, SIGNATURE, BASIC, ACCESS_KEY, SECRET_KEY]
URL = f"https://{USER}:{PASSWORD}@host.invalid/train.tar?sig={SIGNATURE}"

pytestmark = pytest.mark.fault("I2")


def assert_no_secret(text: str | bytes, where: object) -> None:
    contents = text.encode() if isinstance(text, str) else text
    assert [canary for canary in CANARIES if canary.encode() in contents] == [], where


def assert_no_secret_below(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert_no_secret(str(path), path)
        assert_no_secret(path.read_bytes(), path)


def refuse_strangers(request: Request) -> Fault | None:
    """Answer 401 to requests without the password and the signature."""
    is_known = request.header("Authorization") == f"Basic {BASIC}" and f"sig={SIGNATURE}" in request.query
    return None if is_known else Fault(status=401, body=b"who are you?")


@contextmanager
def secret_url(folder: Path) -> Iterator[str]:
    """Serve the manifest of a set, at a URL with secrets that the server asks for."""
    with fault_server(folder, refuse_strangers) as url:
        host = url.removeprefix("http://")
        yield f"http://{USER}:{PASSWORD}@{host}/manifest.json?sig={SIGNATURE}&expires=1"


@pytest.mark.slow
def test_a_run_over_http_writes_and_prints_no_secret(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shards, out, cache = write_small_set(tmp_path / "shards"), tmp_path / "run", tmp_path / "cache"
    with secret_url(shards) as url:
        remote = ["--train", url, "--cache", str(cache)]
        assert main(["train", *train_argv(shards, out, *remote, "--max-steps", "2")]) == 0
        assert main(["train", *train_argv(shards, out, *remote)]) == 0
        samples = ["--shards", url, "--split", "val", "--cache", "none", "--device", "cpu"]
        evaluation = ["--checkpoint", str(out / "best.pt"), *samples, "--out", str(tmp_path / "report")]
        assert main(["evaluate", *evaluation]) == 0
        assert main(["verify", url]) == 0
        assert main(["train", *train_argv(shards, tmp_path / "dry", "--train", url, "--dry-run")]) == 0
        for part, wrong in (("manifest", "missing"), (SIGNATURE, f"x{SIGNATURE}"), (PASSWORD, f"x#{PASSWORD}")):
            assert main(["train", *train_argv(shards, out, "--train", url.replace(part, wrong))]) == 2
    printed = capfd.readouterr()
    assert "/manifest.json?..." in printed.out
    assert_no_secret(printed.out, "standard output")
    assert_no_secret(printed.err, "standard error")
    assert_no_secret_below(tmp_path)


@pytest.mark.slow
def test_a_run_over_s3_writes_and_prints_no_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, out = write_small_set(tmp_path / "shards"), tmp_path / "run"
    with moto_s3() as server:
        for name, value in s3_environment(server).items():
            monkeypatch.setenv(name, value)
        url = f"{upload_s3(server, shards, bucket='films', prefix='set/')}manifest.json"
        assert main(["train", *train_argv(shards, out, "--train", url, "--cache", str(tmp_path / "cache"))]) == 0
        assert main(["train", *train_argv(shards, out, "--train", url.replace("films", "none"))]) == 2
    printed = capfd.readouterr()
    assert f"--train {url}" in printed.out
    assert_no_secret(printed.out, "standard output")
    assert_no_secret(printed.err, "standard error")
    assert_no_secret_below(tmp_path)


@pytest.mark.parametrize(
    "argv",
    [
        [URL],
        ["train", URL],
        ["train", "--trian", URL],
        ["train", f"--trian={URL}"],
        ["train", "--train", "x", "--epochs", URL],
        ["train", f"--epochs={URL}"],
        ["train", "--device", URL],
        ["train", "--set", URL],
        ["train", "--set", f"trian={URL}"],
        ["train", "--set", f"patience={URL}"],
        ["train", "--set", f"train=[{URL!r}, 3]"],
        ["train", "--config", URL],
        ["train", "--resume", URL],
        ["train", "--init-weights", URL],
        ["train", "--out", URL],
        ["train", "--cache", URL],
        ["train", "--allow-host", URL],
        ["train", "--train", URL.replace("https", "ftp")],
        ["train", "--train", f"pipe:curl {URL}"],
        ["train", "--train", URL.partition("@")[2]],
        ["train", "--train", URL.replace("tar", "{0..x")],
        ["train", "--train", URL.replace("@host", "#@host")],
        ["train", "--train", URL.replace("//host.invalid", "//[host")],
        ["evaluate", "--checkpoint", URL, "--shards", "x", "--out", "y"],
        ["evaluate", "--checkpoint", "x", "--runs", URL, "--out", "y"],
        ["calibrate", "--checkpoint", URL, "--shards", "x", "--out", "y"],
        ["predict", "--checkpoint", URL, "x.png", "--gender", "F"],
        ["verify", "x", "--deep", URL.replace("https", "gopher")],
        ["index", URL],
        ["make-shards", "--lables", URL],
        ["make-shards", "--out", URL.replace("https", "ftp")],
        ["make-shards", "--out", URL],
        ["make-shards", "--scheduler", URL],
        ["make-shards", "--labels", URL.replace("https", "gopher"), "--images", "x"],
        ["make-shards", "--labels", __file__, "--images", URL],
        ["make-shards", "--labels", __file__, "--images", URL.replace("https", "gopher")],
    ],
    ids=lambda argv: " ".join(argv).replace(URL, "URL")[:60],
)
def test_a_command_that_is_refused_prints_no_secret(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    printed = capfd.readouterr()
    assert "error: " in printed.err
    assert_no_secret(printed.out + printed.err, argv)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=403),
        Fault(status=503, headers={"Retry-After": "1"}),
        Fault(status=302, headers={"Location": f"http://other.invalid/?sig={SIGNATURE}"}),
        Fault(status=302, headers={"Location": f"http://[{SIGNATURE}"}),
        Fault(status=302, headers={"Location": f"http://me:{SIGNATURE}#@other.invalid"}),
        Fault(cut_at=10, framing="connection"),
        Fault(status=200, body=f"<html>{SIGNATURE}</html>".encode()),
        Fault(headers={"Content-Range": SIGNATURE}),
    ],
    ids=lambda fault: f"{fault.status} {fault.framing} {','.join(fault.headers)}",
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_traceback_contains_no_secret_whatever_the_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, scheme: str
) -> None:
    monkeypatch.setattr(retries, "TIMEOUT_SECONDS", 0.5)
    with fault_server(tmp_path, lambda _: fault) as url:
        host = url.removeprefix("http://")
        with pytest.raises(WdsBoneError) as caught:
            BoneAgeStream(f"{scheme}://{USER}:{PASSWORD}@{host}/train-000000.tar?sig={SIGNATURE}", cache="none")
    assert_no_secret("".join(traceback.format_exception(caught.value)), fault)


@pytest.mark.parametrize("place", ["main", "thread"])
def test_the_traceback_of_a_bug_contains_no_secret(place: str) -> None:
    raising = f"raise ValueError('no {URL}')"
    if place == "thread":
        raising = f"import threading; threading.Thread(target=exec, args=[{raising!r}]).start()"
    code = f"from wds_bone.__main__ import main; main(); {raising}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == (1 if place == "main" else 0)
    assert "ValueError: no https://host.invalid/train.tar?..." in ended.stderr
    assert_no_secret(ended.stderr.rpartition("ValueError")[2], "the error")
