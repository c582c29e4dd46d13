"""Contents that are replaced, damaged or of another kind are detected, and fetched again where that helps."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.network.streams import HTML, Row, epoch_of, error_of, with_secrets
from tests.sample_sets import write_groups, write_set
from tests.servers.answers import Request
from tests.servers.fault import Fault, always, fault_server, in_turn
from wds_bone.objects.clients import open_client
from wds_bone.objects.protocol import ChangedError
from wds_bone.objects.url import parse_url
from wds_bone.shards.samples import SampleTable


@pytest.mark.fault("C8")
def test_a_shard_that_is_replaced_during_an_epoch_is_an_error(tmp_path: Path, cache: str):
    folder = write_set(tmp_path / "shards", size=64, encoding="npy", train=[40])
    cut = in_turn(Fault(cut_at=3000))

    def replace_shard_after_cut(request: Request) -> Fault | None:
        fault = cut(request)
        if fault is None and request.path.endswith(".tar") and request.header("Range") != "bytes=0-0":
            _replace(folder / "train-000000.tar")
        return fault

    with fault_server(folder, replace_shard_after_cut) as url:
        message = error_of(with_secrets(url), cache=cache)
    assert re.search(r"(?s)train-000000.tar\S*: .*(replaced|fails its checksum).*do: ", message)


@pytest.mark.fault("C8")
@pytest.mark.parametrize("framing", ["length", "chunks", "connection"])
@pytest.mark.parametrize("num_bytes", [2000, 1500], ids=["same size", "shorter"])
def test_bytes_of_two_versions_are_never_joined(tmp_path: Path, framing: str, num_bytes: int):
    path = tmp_path / "a.tar"
    path.write_bytes(b"old" * 1000)
    cut = in_turn(Fault(cut_at=1000, framing=framing))  # type: ignore[arg-type]

    def replace_after_cut(request: Request) -> Fault | None:
        if (fault := cut(request)) is None:
            path.write_bytes(b"new" * (num_bytes // 2))
        return fault

    with fault_server(tmp_path, replace_after_cut) as url:
        client = open_client("http")
        with pytest.raises(ChangedError, match="replaced"):
            client.read_all(parse_url(f"{url}/a.tar"), max_bytes=10**6)
        client.close()


@pytest.mark.fault("C8")
def test_a_shard_of_another_size_than_the_manifest_says_is_an_error(tmp_path: Path, cache: str):
    folder = write_set(tmp_path / "shards", train=[5])
    shard = folder / "train-000000.tar"
    shard.write_bytes(shard.read_bytes() + bytes(512))
    with fault_server(folder) as url:
        message = error_of(with_secrets(url), cache=cache)
    assert re.search(r"(?s)train-000000.tar\S*: .*bytes.*do: ", message)


@pytest.mark.fault("C9")
@pytest.mark.parametrize("name", ["manifest.json", "train-000001.index.npy", "train-000001.tar"])
def test_a_page_in_place_of_a_file_is_an_error(tiny_shards: Path, name: str, cache: str):
    page = Fault(status=200, body=HTML, headers={"Content-Type": "text/html", "ETag": '"page"'})
    with fault_server(tiny_shards, always(page, path=name)) as url:
        message = error_of(with_secrets(url), cache=cache)
    assert re.search(rf"(?s){name}\S*: .*do: ", message)


@pytest.mark.fault("C9")
def test_other_contents_of_the_same_size_are_an_error(tmp_path: Path, cache: str):
    folder = write_set(tmp_path / "shards", train=[5])
    shard = folder / "train-000000.tar"
    shard.write_bytes(b"x" * len(shard.read_bytes()))
    with fault_server(folder) as url:
        message = error_of(with_secrets(url), cache=cache)
    assert re.search(r"(?s)train-000000.tar\S*: .*do: ", message)


@pytest.mark.fault("C9")
@pytest.mark.parametrize("length", ["1", "10000000", "no number", "-5"])
@pytest.mark.usefixtures("short_deadline")
def test_a_wrong_length_is_repaired_or_an_error(tiny_shards: Path, local_rows: list[Row], length: str):
    with fault_server(tiny_shards, in_turn(Fault(headers={"Content-Length": length}))) as url:
        assert epoch_of(url, cache="none")[0] == local_rows


@pytest.mark.fault("C10")
def test_a_bit_that_is_flipped_in_transit_is_fetched_again(tiny_shards: Path, local_rows: list[Row], cache: str):
    # Once in each shard: a shard that arrives with wrong bytes twice is an error.
    places = {"train-000000.tar": 600, "train-000001.tar": 2700, "train-000002.tar": 5000}
    flips = {name: in_turn(Fault(flip_bit=8 * place)) for name, place in places.items()}

    def flip(request: Request) -> Fault | None:
        take = flips.get(request.path.rpartition("/")[2])
        return take(request) if take else None

    with fault_server(tiny_shards, flip) as url:
        assert epoch_of(url, cache=cache)[0] == local_rows


@pytest.mark.fault("C10")
@pytest.mark.parametrize("name", ["manifest.json", "train-000001.index.npy", "train-000001.groups.npy"])
def test_a_file_next_to_the_shards_that_arrives_with_a_flipped_bit_is_fetched_again(tmp_path: Path, name: str):
    folder = write_set(tmp_path / "shards", train=[3, 4])
    write_groups(folder, train=[[1, 2, 3], [4, 5, 6, 6]])
    expected = epoch_of(folder, keep=_with_a_patient)[0]
    for place in (10, -10):
        bit = 8 * (place % (folder / name).stat().st_size)
        with fault_server(folder, in_turn(Fault(flip_bit=bit), path=name)) as url:
            rows, transfer = epoch_of(url, cache="none", keep=_with_a_patient)
        assert rows == expected
        assert transfer.retries == 1
        with fault_server(folder, always(Fault(flip_bit=bit), path=name)) as url:
            message = error_of(with_secrets(url), cache="none", keep=_with_a_patient)
        assert re.search(rf"(?s){name}\S*: .*do: ", message)


def _with_a_patient(table: SampleTable) -> NDArray[np.bool_]:
    """Keep all samples; reads the groups."""
    kept: NDArray[np.bool_] = table["group"] >= 0
    return kept


@pytest.mark.fault("C10")
def test_a_bit_that_is_flipped_at_rest_is_an_error_that_names_the_sample(tmp_path: Path, cache: str):
    folder = write_set(tmp_path / "shards", encoding="npy", train=[5])
    shard = folder / "train-000000.tar"
    contents = bytearray(shard.read_bytes())
    contents[contents.index(b"NUMPY") + 200] ^= 1
    shard.write_bytes(contents)
    log: list[Request] = []
    with fault_server(folder, log=log) as url:
        message = error_of(with_secrets(url), cache=cache)
    # With a cache, the digest of the whole shard may be compared before the sample is read for the second time.
    expected = r"sample 'hand-\d' fails its checksum.*crc32" + (
        "" if cache == "none" else "|its contents are not those of its index"
    )
    assert re.search(rf"(?s)train-000000.tar\S*: ({expected}).*do: ", message)


def _replace(shard: Path) -> None:
    """Put other contents of the same size in place of a shard."""
    contents = b"x" * shard.stat().st_size
    if shard.read_bytes() != contents:
        shard.write_bytes(contents)
