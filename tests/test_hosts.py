"""Test training on two hosts: two network namespaces of this machine, each with its own copy of the shards."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.launches import finish, launch, started
from tests.learn.runs import assert_same_state, metrics_of, train_argv
from tests.sample_sets import write_set

NAMES = [f"wdsbone{os.getpid()}-{host}" for host in range(2)]
DEVICES = [f"wb{os.getpid() % 100000}-{host}" for host in range(2)]
ADDRESSES = ["10.213.7.1", "10.213.7.2"]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two namespaces that can only reach each other, through a pair of network devices."""
    try:
        ip("netns", "add", NAMES[0])
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs `ip netns` (iproute2) and the right to use it, which containers often lack")
    try:
        ip("netns", "add", NAMES[1])
        ip("link", "add", DEVICES[0], "type", "veth", "peer", "name", DEVICES[1])
        for name, device, address in zip(NAMES, DEVICES, ADDRESSES, strict=True):
            ip("link", "set", device, "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield NAMES
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=20)


def host_command(host: int, argv: list[str]) -> list[str]:
    """Return the command line for one of two hosts, as in docs/training.md."""
    node = ["--nnodes", "2", "--node-rank", str(host), "--master-addr", ADDRESSES[0], "--master-port", "29500"]
    return [
        *("ip", "netns", "exec", NAMES[host], sys.executable, "-m", "torch.distributed.run"),
        *(*node, "--nproc-per-node", "1", "-m", "wds_bone.train", *argv),
    ]


@pytest.mark.fault("F4")
def test_two_hosts_train_the_same_model_as_two_processes_on_one_host(hosts: list[str], tmp_path: Path):
    shards = write_set(tmp_path / "shards-0", size=32, train=[17, 3, 20], val=[6, 5])
    shutil.copytree(shards, tmp_path / "shards-1")
    settings = ["--batch-size", "6", "--max-steps", "8"]
    with ExitStack() as stack:
        processes = []
        for host in range(2):
            argv = train_argv(tmp_path / f"shards-{host}", tmp_path / f"run-{host}", *settings)
            # By default, Gloo uses the device of the machine's name, which these namespaces do not have.
            environment = {"GLOO_SOCKET_IFNAME": DEVICES[host]}
            processes.append(stack.enter_context(started(host_command(host, argv), **environment)))
        results = [finish(process) for process in processes]
    assert [process.returncode for process in results] == [0, 0], results
    assert not (tmp_path / "run-1").exists()
    whole = train_argv(shards, tmp_path / "whole", *settings)
    assert launch(2, "wds_bone.train", *whole).returncode == 0
    assert metrics_of(tmp_path / "run-0") == metrics_of(tmp_path / "whole")
    assert_same_state(tmp_path / "run-0" / "last.pt", tmp_path / "whole" / "last.pt")
