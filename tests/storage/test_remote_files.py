"""Files in object storage are found, listed and read as local ones are."""

import sys
from pathlib import Path

import pytest

from tests.servers.answers import Request
from tests.servers.fault import Fault, always, fault_server
from tests.servers.s3 import s3_environment, upload_s3
from wds_bone.errors import ConfigError, ShardError
from wds_bone.objects import clients
from wds_bone.objects.url import parse_url
from wds_bone.storage import location
from wds_bone.stream.selection import select_shards
from wds_bone.verify import find_problems


def test_braces_in_a_url_expand_in_order():
    found = location.expand("https://u:canary@host/set/train-{0..2}.tar?sig=canary")
    assert [str(url) for url in found] == [f"https://host/set/train-{number}.tar?..." for number in range(3)]
    assert found[0].secret_text() == "https://u:canary@host/set/train-0.tar?sig=canary"
    assert location.expand("s3://bucket/a%7B1%7D%2A.tar") == [parse_url("s3://bucket/a{1}*.tar")]


def test_a_path_that_exists_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    assert location.expand("s3://bucket") == [Path("s3:/bucket")]


@pytest.mark.fault("I2")
@pytest.mark.parametrize(
    "pattern", ["https://u:canary@host/{0..3?sig=canary", "https://canary@host/{0..9999999}", "s3://b/*/a.tar?canary"]
)
def test_a_pattern_that_cannot_be_expanded_is_refused_without_its_secrets(pattern: str):
    with pytest.raises(ConfigError, match="do: ") as refused:
        location.expand(pattern)
    assert "canary" not in str(refused.value)


def test_a_set_in_object_storage_is_the_local_one(tiny_shards: Path):
    local = select_shards(tiny_shards, split="train")
    with fault_server(tiny_shards) as root:
        for name in (root, f"{root}/manifest.json"):
            found = select_shards(name, split="train")
            assert found.order_digest == local.order_digest
            assert (found.table == local.table).all()
        assert select_shards(f"{root}/train-{{000000..000002}}.tar").order_digest == local.order_digest
        assert list(find_problems([root, f"{root}/manifest.json", f"{root}/val-000000.tar"])) == []


def test_shards_without_a_manifest_are_scanned(tiny_shards: Path, tmp_path: Path):
    shards = sorted(tiny_shards.glob("train-*.tar"))
    for shard in shards:
        (tmp_path / shard.name).write_bytes(shard.read_bytes())
    with fault_server(tmp_path) as root:
        found = select_shards(f"{root}/train-{{000000..000002}}.tar")
    assert found.order_digest == select_shards([str(shard) for shard in shards]).order_digest


def test_the_files_of_many_shards_are_read_at_once(tiny_shards: Path):
    with fault_server(tiny_shards) as root:
        urls = location.expand(f"{root}/train-{{000000..000002}}.tar")
        assert location.for_each(location.file_bytes, urls) == [
            location.file_bytes(tiny_shards / url.name) for url in urls
        ]
        missing = [*urls, parse_url(f"{root}/gone.tar")]
        with pytest.raises(FileNotFoundError):
            location.for_each(location.file_bytes, missing)


def test_a_bucket_is_listed_and_globs_match_its_objects(
    s3_url: str, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("obstore")
    for name, value in s3_environment(s3_url).items():
        monkeypatch.setenv(name, value)
    prefix = upload_s3(s3_url, tiny_shards, bucket="listed", prefix="set/")
    names = [path.name for path in location.list_tars(tiny_shards)]
    assert [url.name for url in location.list_tars(parse_url(prefix))] == names
    assert [url.name for url in location.expand(f"{prefix}train-*.tar")] == [name for name in names if "train" in name]
    assert [url.name for url in location.expand(f"{prefix}{{val,train}}-00000[01].tar")] == [
        "val-000000.tar",
        "train-000000.tar",
        "train-000001.tar",
    ]
    with pytest.raises(ConfigError, match="matches nothing in s3://listed/set"):
        location.expand(f"{prefix}test-*.tar")


def test_the_files_of_a_folder_cannot_be_listed_over_http(tiny_shards: Path):
    with fault_server(tiny_shards) as root:
        for name in (f"{root}/train-*.tar", f"{root}/folder"):
            with pytest.raises(ShardError, match=r"(?s)cannot be listed over HTTP.*name its manifest.json"):
                select_shards(name, split="train" if name.endswith("folder") else None)


@pytest.mark.fault("C2", "I2")
def test_an_error_names_the_status_and_the_url_without_its_secrets(tiny_shards: Path):
    log: list[Request] = []
    with fault_server(tiny_shards, always(Fault(status=403)), log=log) as root:
        name = root.replace("://", "://user:canary@") + "/train-000000.tar?sig=canary"
        with pytest.raises(ShardError, match=r"manifest.json\?\.\.\.: cannot be read: .*HTTP 403") as refused:
            select_shards(name)
    assert "canary" not in str(refused.value)
    assert len(log) == 1


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "obstore", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "wds_bone.objects.cloud_objects", raising=False)
    with pytest.raises(ConfigError, match=r'(?s)obstore is not installed.*pip install "wds-bone\[gcs\]"'):
        clients.open_client("gs")
