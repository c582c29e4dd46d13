"""Redirects are followed only to where the user allows it, and never with credentials."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.network.streams import CANARIES, Row, epoch_of, error_of, with_secrets
from tests.servers.answers import Request
from tests.servers.fault import Fault, Faults, always, fault_server
from tests.servers.link import namespace
from wds_bone.objects import access


@pytest.mark.fault("C11")
def test_a_redirect_to_another_host_is_refused_unless_it_is_allowed(
    tiny_shards: Path, local_rows: list[Row], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(access, "_allowed_hosts", frozenset())
    log: list[Request] = []
    with fault_server(tiny_shards, host="127.0.0.2", log=log) as other, fault_server(tiny_shards, _to(other)) as url:
        message = error_of(with_secrets(url), cache="none")
        assert not log
        assert re.search(r"(?s)manifest.json\S*: .*redirects to another host, 127.0.0.2.*--allow-host", message)
        access.allow_redirects_to(["127.0.0.2"])
        assert epoch_of(with_secrets(url), cache="none")[0] == local_rows
    assert len(log) > 3
    assert not [request for request in log if request.header("authorization") or request.query]
    assert not [canary for canary in CANARIES if canary in repr(log)]


@pytest.mark.fault("C11")
@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("file:///etc/hostname", "scheme 'file'"),
        ("http://169.254.169.254/latest/meta-data", "another host, 169.254.169.254"),
        ("//[fd00:ec2::254]/", "another host"),
        ("http://user:canary-password@127.0.0.9/", "another host, 127.0.0.9,"),
        ("/manifest.json", "more than 5 times"),
        ("", "more than 5 times"),
    ],
)
def test_a_redirect_that_leads_astray_is_refused(tiny_shards: Path, target: str, problem: str):
    log: list[Request] = []
    redirect = Fault(status=302, headers={"Location": target})
    with fault_server(tiny_shards, always(redirect), log=log) as url:
        message = error_of(with_secrets(url), cache="none")
    assert problem in message
    assert len(log) <= 6


@pytest.mark.fault("C11")
def test_a_redirect_within_a_host_is_followed(tmp_path: Path, local_rows: list[Row], tiny_shards: Path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "moved").symlink_to(tiny_shards)

    def moved(request: Request) -> Fault | None:
        target = f"/moved{request.path}"
        return None if request.path.startswith("/moved/") else Fault(status=307, headers={"Location": target})

    with fault_server(tmp_path / "root", moved) as url:
        assert epoch_of(url, cache="none")[0] == local_rows


def _to(server: str) -> Faults:
    """Return what redirects every request to another server."""
    return lambda request: Fault(status=302, headers={"Location": f"{server}{request.path}"})


@pytest.mark.slow
@pytest.mark.fault("C11")
def test_nothing_is_sent_to_the_metadata_service_even_if_it_is_allowed(tiny_shards: Path):
    """In a network namespace, a server listens at the address where clouds give out credentials."""
    with namespace("169.254.169.254/32") as prefix:
        command = [*prefix, sys.executable, "-c", _REDIRECTED.format(shards=str(tiny_shards))]
        result = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(r"manifest.json\S*: .*link-local address 169.254.169.254, which is refused", result.stdout)
    assert "0 requests" in result.stdout


_REDIRECTED = """
from pathlib import Path
from tests.network.streams import error_of
from tests.servers.fault import Fault, always, fault_server
from tests.servers.link import namespace
from wds_bone.objects import access

log, folder = [], Path({shards!r})
access.allow_redirects_to(["169.254.169.254"])
with fault_server(folder, host="169.254.169.254", log=log) as service:
    redirect = Fault(status=302, headers={{"Location": service + "/manifest.json"}})
    with fault_server(folder, always(redirect)) as url:
        print(error_of(url, cache="none"))
    print(error_of(service, cache="none"))
print(len(log), "requests")
"""
