"""A transfer that is cut, restarted or stalled delivers every byte once."""

import re
import signal
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path

import pytest

from tests.network.streams import Row, epoch_of, error_of, with_secrets
from tests.sample_sets import write_set
from tests.servers.answers import Request
from tests.servers.fault import Fault, Faults, always, fault_server, in_turn
from tests.servers.nginx import nginx
from wds_bone.objects.clients import open_client
from wds_bone.objects.url import parse_url


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    ("ending", "framing"), [("close", "length"), ("reset", "length"), ("close", "chunks"), ("close", "connection")]
)
def test_a_transfer_that_is_cut_anywhere_continues_at_its_last_good_byte(tmp_path: Path, ending: str, framing: str):
    shard = write_set(tmp_path, train=[2]) / "train-000000.tar"
    contents = shard.read_bytes()
    boundaries = range(0, len(contents) + 1, 512)
    cuts = sorted({min(max(0, cut), len(contents)) for edge in boundaries for cut in (edge - 1, edge, edge + 1)})
    log: list[Request] = []
    faults = in_turn(*(Fault(cut_at=cut, ending=ending, framing=framing) for cut in cuts for _ in range(1)))  # type: ignore[arg-type]
    with fault_server(tmp_path, _every_second(faults), log=log) as url:
        client = open_client("http")
        for _ in cuts:
            assert client.read_all(parse_url(f"{url}/{shard.name}"), max_bytes=len(contents)) == contents
        client.close()
    continued = [request.header("range") for request in log[1::2]]
    expected = [f"bytes={cut}-" for cut in cuts if 0 < cut < len(contents)]
    assert set(expected) <= set(continued), "a transfer was repeated from its beginning"


@pytest.mark.fault("C5")
def test_an_epoch_with_cuts_delivers_every_sample_once(tiny_shards: Path, local_rows: list[Row], cache: str):
    kinds = product([0, 1, 300], ["close", "reset"], ["length", "chunks", "connection"])
    faults = [Fault(cut_at=cut, ending=ending, framing=framing) for cut, ending, framing in kinds]  # type: ignore[arg-type]
    with fault_server(tiny_shards, in_turn(*faults)) as url:
        rows, transfer = epoch_of(url, cache=cache)
    assert rows == local_rows
    assert transfer.retries > 0


@pytest.mark.fault("C6")
def test_a_server_without_ranges_delivers_every_sample_once(tiny_shards: Path, local_rows: list[Row], cache: str):
    with fault_server(tiny_shards, always(Fault(ignore_range=True))) as url:
        assert epoch_of(url, cache=cache)[0] == local_rows


@pytest.mark.fault("C6")
def test_a_server_without_ranges_that_cuts_is_asked_from_the_beginning(tiny_shards: Path, local_rows: list[Row]):
    cuts = [Fault(ignore_range=True, cut_at=cut) for cut in (5, 512, 20000)]
    cut = in_turn(*cuts)
    with fault_server(tiny_shards, lambda request: cut(request) or Fault(ignore_range=True)) as url:
        assert epoch_of(url, cache="none")[0] == local_rows


@pytest.mark.fault("C6")
def test_nginx_without_ranges_delivers_every_sample_once(tiny_shards: Path, local_rows: list[Row], cache: str):
    with nginx(tiny_shards, "max_ranges 0;") as url:
        assert epoch_of(url, cache=cache)[0] == local_rows


@pytest.mark.fault("C7")
@pytest.mark.parametrize(
    "fault",
    [Fault(delay_seconds=3600), Fault(cut_at=100, ending="stall"), Fault(bytes_per_second=100)],
    ids=["before the answer", "in the middle", "slow"],
)
@pytest.mark.usefixtures("short_pace")
def test_an_answer_that_stalls_is_given_up_and_continued(
    tiny_shards: Path, local_rows: list[Row], cache: str, fault: Fault
):
    with fault_server(tiny_shards, in_turn(fault, fault)) as url:
        rows, transfer = epoch_of(url, cache=cache)
    assert rows == local_rows
    assert transfer.retries >= 1


@pytest.mark.fault("C7")
@pytest.mark.parametrize("fault", [Fault(cut_at=0, ending="stall"), Fault(bytes_per_second=1)], ids=["stall", "slow"])
@pytest.mark.usefixtures("short_deadline")
def test_a_server_that_never_delivers_is_an_error_after_the_deadline(tiny_shards: Path, fault: Fault):
    with fault_server(tiny_shards, always(fault, path=".tar")) as url:
        message = error_of(with_secrets(url), cache="none")
    assert re.search(r"(?s)train-00000\d.tar\S*: .*the server sent nothing, or too little.*do: ", message)


def _every_second(faults: Faults) -> Faults:
    """Let every second request go well."""
    numbers = iter(range(10**9))
    return lambda request: None if next(numbers) % 2 else faults(request)


@pytest.mark.slow
@pytest.mark.fault("C7")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_for_a_silent_server_ends_at_the_first_signal(tiny_shards: Path, number: int):
    asked = threading.Event()

    def stall(request: Request) -> Fault | None:
        if not request.path.endswith(".tar") or request.header("Range") == "bytes=0-0":
            return None
        asked.set()
        return Fault(delay_seconds=3600)

    with fault_server(tiny_shards, stall) as url:
        program = (
            "from wds_bone import BoneAgeStream\n"
            f"with BoneAgeStream({url!r}, split='train', batch_size=8, cache='none') as stream: list(stream)"
        )
        process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
        try:
            assert asked.wait(timeout=100)
            process.send_signal(number)
            assert process.wait(timeout=30) != 0
        finally:
            process.kill()
            process.wait(timeout=10)
