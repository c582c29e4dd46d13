"""Sets in S3, Google Cloud Storage and Azure deliver what local files do, or an error says what to set."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.network.streams import HTML, Row, epoch_of, error_of
from tests.sample_sets import write_set
from tests.servers.azure import KEY, azure_environment, sas_token, upload_azure
from tests.servers.fault import Fault, Faults, always, fault_server, in_turn
from tests.servers.gcs import gcs_environment, upload_gcs
from tests.servers.s3 import ACCESS_KEY, SECRET_KEY, s3_environment, upload_s3
from wds_bone.objects import clients, retries

pytestmark = pytest.mark.slow  # the servers take long to start
pytest.importorskip("obstore", reason="needs obstore (pip install 'wds-bone[s3,gcs,azure]')")
BUCKET = "bones"


@dataclass(frozen=True)
class Store:
    """A server of a cloud, with its way to upload a folder and to tell clients where it is."""

    url: str
    upload: Callable[..., str]
    environment: Callable[[str], Mapping[str, str]]


@pytest.fixture(params=["s3", "gcs", "azure"])
def store(request: pytest.FixtureRequest) -> Store:
    url = request.getfixturevalue(f"{request.param}_url")
    stores = {
        "s3": (upload_s3, s3_environment),
        "gcs": (upload_gcs, gcs_environment),
        "azure": (upload_azure, azure_environment),
    }
    return Store(url, *stores[request.param])


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the credentials of whoever runs the tests, and give up after twenty seconds without progress."""
    monkeypatch.setattr(retries, "TIMEOUT_SECONDS", 20.0)
    clients.close_clients()  # those of another test have its environment
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)


def uploaded(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, *, prefix: str) -> str:
    """Upload a folder, set the environment of the clients, and return its address without a slash at the end."""
    set_environment(monkeypatch, store.environment(store.url))
    return store.upload(store.url, folder, **{_container(store): BUCKET}, prefix=f"{prefix}/").rstrip("/")


def _container(store: Store) -> str:
    return "container" if store.upload is upload_azure else "bucket"


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@contextmanager
def behind(store: Store, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a faulty server between the clients and the store."""
    host = urlsplit(store.url).netloc
    with fault_server(f"http://{host}", faults) as url:
        set_environment(monkeypatch, store.environment(store.url.replace(f"http://{host}", url)))
        clients.close_clients()
        yield


def test_a_set_in_a_bucket_delivers_what_local_files_do(
    store: Store, tiny_shards: Path, local_rows: list[Row], cache: str, monkeypatch: pytest.MonkeyPatch
):
    address = uploaded(store, tiny_shards, monkeypatch, prefix="tiny")
    rows, transfer = epoch_of(address, cache=cache)
    assert rows == local_rows
    assert transfer.bytes_fetched > 0
    assert epoch_of(f"{address}/manifest.json", cache=cache)[0] == local_rows


def test_shards_in_a_bucket_without_a_manifest_are_listed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write_set(tmp_path / "shards", train=[3, 4])
    for path in folder.iterdir():
        if path.suffix != ".tar":
            path.unlink()
    address = uploaded(store, folder, monkeypatch, prefix="bare")
    expected = epoch_of(folder)[0]
    assert epoch_of(address, cache="none")[0] == expected
    assert epoch_of(f"{address}/train-*.tar", cache="none", split=None)[0] == expected
    assert epoch_of(f"{address}/train-00000{{0..1}}.tar", cache="none", split=None)[0] == expected


@pytest.mark.fault("C12", "C3")
def test_a_store_that_asks_to_slow_down_is_asked_again(
    store: Store, tiny_shards: Path, local_rows: list[Row], cache: str, monkeypatch: pytest.MonkeyPatch
):
    address = uploaded(store, tiny_shards, monkeypatch, prefix="tiny")
    body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
    faults = in_turn(*[Fault(status=status, body=body) for status in (503, 429, 500)], path="tar")
    with behind(store, faults, monkeypatch):
        assert epoch_of(address, cache=cache)[0] == local_rows


@pytest.mark.fault("C12", "C5")
def test_a_body_that_is_cut_is_continued(
    store: Store, tiny_shards: Path, local_rows: list[Row], cache: str, monkeypatch: pytest.MonkeyPatch
):
    address = uploaded(store, tiny_shards, monkeypatch, prefix="tiny")
    faults = in_turn(
        *[Fault(cut_at=cut, ending=ending) for cut in (0, 1, 700) for ending in ("close", "reset")], path="tar"
    )
    with behind(store, faults, monkeypatch):
        assert epoch_of(address, cache=cache)[0] == local_rows


@pytest.mark.fault("C12")
@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "InvalidAccessKeyId"])
@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_an_error_at_once_that_says_what_to_set(
    store: Store, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str
):
    address = uploaded(store, tiny_shards, monkeypatch, prefix="tiny")
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>".encode()
    with behind(store, always(Fault(status=status, body=body)), monkeypatch):
        message = error_of(address, cache="none")
    assert re.search(rf"(?s){re.escape(address)}\S*: .*(HTTP {status}).*set [A-Z]+_[A-Z_]+.*do: ", message)
    assert not [secret for secret in (ACCESS_KEY, SECRET_KEY, KEY) if secret in message]


@pytest.mark.fault("C12")
def test_a_bucket_that_does_not_exist_is_an_error(store: Store, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch):
    address = uploaded(store, tiny_shards, monkeypatch, prefix="tiny").replace(BUCKET, "no-such-bucket")
    assert re.search(r"(?s)no-such-bucket/tiny\S*: .*do: ", error_of(address, cache="none"))


@pytest.mark.fault("C12")
def test_a_shard_that_is_absent_is_an_error(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_set(tmp_path / "shards", train=[3, 4])
    (folder / "train-000001.tar").unlink()
    address = uploaded(store, folder, monkeypatch, prefix="incomplete")
    assert re.search(r"(?s)train-000001.tar: .*no such object.*do: ", error_of(address, cache="none"))


@pytest.mark.fault("C12")
def test_a_page_in_place_of_an_answer_of_a_store_is_an_error(
    store: Store, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch
):
    address = uploaded(store, tiny_shards, monkeypatch, prefix="tiny")
    page = Fault(status=200, body=HTML, headers={"Content-Type": "text/html", "ETag": '"page"'})
    with behind(store, always(page, path="tar"), monkeypatch):
        assert re.search(r"(?s)train-00000\d.tar: .*do: ", error_of(address, cache="none"))


@pytest.mark.fault("C12")
def test_a_wrong_region_is_an_error_that_says_so(s3_url: str, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch):
    set_environment(monkeypatch, s3_environment(s3_url))
    address = upload_s3(s3_url, tiny_shards, bucket=BUCKET, prefix="tiny/")
    body = b"<Error><Code>PermanentRedirect</Code><Message>Use another endpoint.</Message></Error>"
    moved = Fault(status=301, body=body, headers={"x-amz-bucket-region": "eu-central-1"})
    with fault_server(s3_url, always(moved)) as url:
        set_environment(monkeypatch, s3_environment(url))
        clients.close_clients()
        assert re.search(r"(?s)s3://bones/tiny\S*: .*region.*do: ", error_of(address, cache="none"))


@pytest.mark.fault("C12", "I2")
def test_a_signed_address_of_azure_needs_no_key(
    azure_url: str, tiny_shards: Path, local_rows: list[Row], monkeypatch: pytest.MonkeyPatch
):
    set_environment(monkeypatch, {**azure_environment(azure_url), "AZURE_STORAGE_CONNECTION_STRING": ""})
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    address = upload_azure(azure_url, tiny_shards, container=BUCKET, prefix="tiny/").rstrip("/")
    assert epoch_of(f"{address}?{sas_token()}", cache="none")[0] == local_rows
    wrong = sas_token()[:-6] + "AAAA%3D"
    message = error_of(f"{address}?{wrong}", cache="none")
    assert "sig=" not in message
    assert re.search(r"(?s)az://bones/tiny\S*: .*do: ", message)


@pytest.mark.fault("C12", "I2")
@pytest.mark.parametrize(
    ("address", "variable"),
    [("gs://bones/tiny", "GOOGLE_SERVICE_ACCOUNT_KEY"), ("az://bones/tiny", "AZURE_STORAGE_CONNECTION_STRING")],
)
def test_settings_that_cannot_be_used_are_an_error_at_once(
    address: str, variable: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, "canary-password")
    began = time.monotonic()
    assert re.search(r"(?s)(gs|az)://bones.* cannot be opened.*do: +set ", error_of(address, cache="none"))
    assert time.monotonic() - began < 10
