"""A process that was forked from one that has read objects reads them too, or says that it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.fault import fault_server
from tests.servers.s3 import s3_environment

# Reads an object, also in a fork, and prints what the fork gets.
READ_AND_FORK = """
import os, sys, warnings
from wds_bone.objects.clients import client_of
from wds_bone.objects.url import parse_url
warnings.simplefilter("ignore")  # of a fork with threads
url = parse_url(sys.argv[1])
assert client_of(url).read(url, 0, 3) == b"abc"
if not os.fork():
    try:
        print(client_of(url).read(url, 3, 3), flush=True)
    except Exception as error:
        print(error, flush=True)
    sys.exit()
os.wait()
assert client_of(url).read(url, 0, 3) == b"abc"
"""


def output_of(url: str, environment: dict[str, str]) -> str:
    environment = {**os.environ, **environment}
    command = [sys.executable, "-c", READ_AND_FORK, url]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.tar").write_bytes(b"abcdef")
    return tmp_path


def test_a_fork_reads_from_web_servers(folder: Path):
    with fault_server(folder) as root:
        assert output_of(f"{root}/set/a.tar", {}) == "b'def'\n"


def test_a_fork_that_cannot_read_from_a_bucket_says_so(folder: Path):
    pytest.importorskip("obstore")
    with fault_server(folder) as root:
        text = output_of("s3://set/a.tar", s3_environment(root))
    assert text.startswith("s3://set: cannot be used in this process, which was forked")
    assert "do:" in text
