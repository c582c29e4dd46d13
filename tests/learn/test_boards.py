"""Test the boards that show a run: TensorBoard, and Weights & Biases with the real library, not connected."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tests.learn.runs import assert_same_state, train_argv, write_small_set
from wds_bone.errors import WdsBoneError
from wds_bone.learn.boards import BestEffort, open_boards, refuse_missing_wandb
from wds_bone.train import main


def test_after_the_first_failure_one_warning_is_printed_and_nothing_more_is_called(capsys: pytest.CaptureFixture[str]):
    attempt, calls = BestEffort("the board", OSError), []

    def fail() -> None:
        calls.append(len(calls))
        raise OSError(28, "No space left on device")

    attempt(fail)
    attempt(fail)
    attempt.close(fail)
    assert calls == [0, 1]
    assert capsys.readouterr().err == (
        "warning: the board: cannot be written: No space left on device; training continues without it\n"
    )


def test_a_failure_that_is_a_bug_is_not_caught():
    with pytest.raises(KeyError):
        BestEffort("the board", OSError)(lambda: {}["step"])


def test_an_error_of_ours_is_shown_without_its_remedy(capsys: pytest.CaptureFixture[str]):
    def fail() -> None:
        raise WdsBoneError("curve.png: cannot be written: quota", do="free some space")

    BestEffort("the curve", Exception)(fail)
    assert capsys.readouterr().err == "warning: curve.png: cannot be written: quota; training continues without it\n"


def test_asking_for_weights_and_biases_without_the_extra_is_an_error_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refuse_missing_wandb(None)
    with pytest.raises(WdsBoneError, match=r"--set wandb=bones: .*\n.*run `pip install wandb`"):
        refuse_missing_wandb("bones")


def test_a_broken_installation_of_weights_and_biases_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    write_line(tmp_path, {"step": 1, "loss": 1.0})
    (line,) = warnings_in(capsys.readouterr().err)
    assert line.startswith("warning: Weights & Biases: ModuleNotFoundError: import of wandb halted")


def test_a_broken_installation_of_tensorboard_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with open_boards(tmp_path, step=0, project=None) as boards:
        assert boards == []
    (line,) = warnings_in(capsys.readouterr().err)
    assert line.startswith("warning: TensorBoard cannot be imported: ModuleNotFoundError: import of torch.utils.tensor")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Weights & Biases from the network, and from the files of the person who runs the tests."""
    wandb = pytest.importorskip("wandb")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()  # forgets what it has read from the environment before


def write_line(out: Path, line: dict[str, float]) -> None:
    with open_boards(out, step=0, project="bones") as boards:
        for board in boards:
            board.write_metrics(line)


def warnings_in(errors: str) -> list[str]:
    """Return our own lines; Weights & Biases prints others."""
    return [line for line in errors.splitlines() if line.startswith("warning: ")]


def wandb_records(out: Path) -> list[bytes]:
    """Return what the launches of a run would send."""
    return [path.read_bytes() for path in sorted((out / "wandb").glob("offline-run-*/*.wandb"))]


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_weights_and_biases_receives_numbers_and_figures_but_no_films_and_changes_no_weight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shards, out = write_small_set(tmp_path / "shards"), tmp_path / "first"
    assert main(train_argv(shards, out, "--max-steps", "3", "--set", "wandb=bones")) == 0
    assert f"Weights & Biases: offline; upload with `wandb sync {out}" in capsys.readouterr().out
    assert main(train_argv(shards, out, "--set", "wandb=bones")) == 0
    first, second = wandb_records(out)
    for record in (first, second):
        assert all(word in record for word in (b"bones", b"loss", b"val_mae_months", b"elapsed_seconds"))
    images = list((out / "wandb").glob("offline-run-*/files/media/**/*.png"))
    assert len(images) == 2
    assert all(path.name.startswith("predicted and true age") for path in images)
    (run_id,) = {path.name.rpartition("-")[2] for path in (out / "wandb").glob("offline-run-*")}
    assert run_id == (out / "wandb" / "run_id").read_text()
    assert main(train_argv(shards, tmp_path / "plain")) == 0
    assert_same_state(out / "last.pt", tmp_path / "plain" / "last.pt")


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
@pytest.mark.fault("E7")
def test_the_death_of_its_process_ends_weights_and_biases_but_not_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with open_boards(tmp_path, step=0, project="bones") as boards:
        for step in range(1, 4):
            for board in boards:
                board.write_metrics({"step": step, "loss": 1.0})
                board.show_figure("figure", Figure(), step=step)
            if step == 1:
                for pid in processes_named("wandb-core"):
                    os.kill(pid, signal.SIGKILL)
    (line,) = warnings_in(capsys.readouterr().err)
    assert line.startswith("warning: Weights & Biases: ")
    assert line.endswith("; training continues without it")


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_machine_without_an_account_trains_without_weights_and_biases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "online")
    write_line(tmp_path, {"step": 1, "loss": 1.0})
    (line,) = warnings_in(capsys.readouterr().err)
    assert line.startswith("warning: Weights & Biases: UsageError: No API key configured.")
    assert line.endswith("; training continues without it")


def processes_named(name: str) -> list[int]:
    """Return the ids of the children of this process whose command line contains a name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and name in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found
