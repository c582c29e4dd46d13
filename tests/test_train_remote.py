"""Test that `wds-bone train` does with remote shards what it does with local ones, and shows what it fetched."""

from pathlib import Path

import pytest

from tests.learn.runs import NUM_STEPS, assert_same_state, metrics_of, train_argv
from tests.servers.fault import fault_server
from wds_bone.learn.metrics_file import read_metrics
from wds_bone.model.checkpoint import load_checkpoint
from wds_bone.train import main

pytestmark = pytest.mark.slow
TRANSFER = {"bytes_fetched", "cache_hits", "retries", "waited_seconds"}


@pytest.mark.parametrize("windows", ["none", "1"])
def test_a_run_over_http_gives_the_weights_of_a_local_run_and_shows_what_it_fetched(
    shards: Path, tmp_path: Path, windows: str
):
    order = ["--set", f"shuffle_windows={windows}"]
    assert main(train_argv(shards, tmp_path / "local", *order)) == 0
    with fault_server(shards) as url:
        there = ["--train", f"{url}/manifest.json", "--cache", str(tmp_path / "cache")]
        assert main(train_argv(shards, tmp_path / "remote", *order, *there)) == 0
    for name in ("last.pt", "best.pt"):
        assert_same_state(tmp_path / "local" / name, tmp_path / "remote" / name)
    assert metrics_of(tmp_path / "local") == metrics_of(tmp_path / "remote")
    assert not any(TRANSFER & line.keys() for line in read_metrics(tmp_path / "local" / "metrics.jsonl"))
    last = read_metrics(tmp_path / "remote" / "metrics.jsonl")[-1]
    assert last.keys() >= TRANSFER
    assert 0 < last["bytes_fetched"] <= 3 * sum(path.stat().st_size for path in shards.iterdir())


def test_a_run_resumes_from_another_url_of_the_same_shards(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, again = tmp_path / "run", ["--out", str(tmp_path / "again"), "--dry-run"]
    with fault_server(shards.parent) as url:
        assert main(train_argv(shards, out, "--max-steps", "2")) == 0
        there = ["--train", f"{url}/shards/manifest.json?sig=secret", "--cache", str(tmp_path / "cache")]
        assert main(train_argv(shards, out, *there)) == 0
        assert load_checkpoint(out / "last.pt")["progress"]["step"] == NUM_STEPS
        # The saved settings lack the signature, and say so; the option replaces it.
        assert main(["--config", str(out / "config.toml"), *again]) == 2
        problem = capsys.readouterr().err
        assert f"--train {url}/shards/manifest.json?...: was saved without its query" in problem
        assert main(["--config", str(out / "config.toml"), *again, *there]) == 0


def test_a_run_with_other_windows_does_not_resume(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = train_argv(shards, tmp_path / "run", "--max-steps", "1")
    assert main([*argv, "--set", "shuffle_windows=1"]) == 0
    assert main(argv) == 2
    problem = capsys.readouterr().err
    assert "expected: --set shuffle_windows=1" in problem
    assert "got:      --set shuffle_windows not set" in problem
