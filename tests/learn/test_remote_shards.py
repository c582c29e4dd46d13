"""Training on shards in object storage gives the weights of training on local files, bit for bit."""

from pathlib import Path

import pytest

from tests.learn.runs import assert_same_state, metrics_of, train_argv, write_small_set
from tests.servers.nginx import nginx
from tests.servers.s3 import s3_environment, upload_s3
from wds_bone.train import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("set") / "shards")


@pytest.fixture(scope="module")
def local(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three epochs on local files."""
    out = tmp_path_factory.mktemp("local") / "run"
    assert main(train_argv(shards, out, "--epochs", "3")) == 0
    return out


@pytest.mark.parametrize("cache", ["cache", "none"])
def test_weights_over_http_are_those_of_local_files(cache: str, shards: Path, local: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "run", cache if cache == "none" else str(tmp_path / cache)
    with nginx(shards) as url:
        options = ["--train", f"{url}/manifest.json", "--epochs", "3", "--cache", folder]
        assert main(train_argv(shards, out, *options, "--max-steps", "2")) == 0
        assert main(train_argv(shards, out, *options)) == 0
    assert_same_state(out / "last.pt", local / "last.pt")
    assert metrics_of(out) == metrics_of(local)


def test_weights_from_s3_are_those_of_local_files(
    s3_url: str, shards: Path, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = upload_s3(s3_url, shards, bucket="training", prefix="set/")
    for name, value in s3_environment(s3_url).items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "run"
    assert main(train_argv(shards, out, "--train", url, "--epochs", "3", "--cache", str(tmp_path / "cache"))) == 0
    assert_same_state(out / "last.pt", local / "last.pt")
