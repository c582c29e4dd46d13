"""Test `wds-bone train` on a CUDA device: it resumes exactly, and reports what goes wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cuda import DEVICE, ON_CUDA
from tests.learn.runs import NUM_STEPS, assert_same_state, metrics_of, train_argv
from wds_bone.evaluate import main as evaluate
from wds_bone.inference.predictions import read_predictions
from wds_bone.train import main

pytestmark = ON_CUDA


def argv_of(shards: Path, out: Path, *more: str) -> list[str]:
    return train_argv(shards, out, "--device", DEVICE.type, *more)


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make PyTorch use algorithms that give the same bits every time, or raise an error where it has none."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.fault("F4")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.usefixtures("deterministic")
def test_a_run_stopped_and_resumed_at_every_step_equals_the_uninterrupted_one(
    precision: str, shards: Path, tmp_path: Path
) -> None:
    settings = ("--model", "mobilenet_v3_small", "--precision", precision)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(argv_of(shards, whole, *settings)) == 0
    for step in range(1, NUM_STEPS + 1):
        assert main(argv_of(shards, stopped, *settings, "--max-steps", str(step))) == 0
    assert_same_state(stopped / "last.pt", whole / "last.pt")
    assert_same_state(stopped / "best.pt", whole / "best.pt")
    assert without_memory(stopped) == without_memory(whole)


def without_memory(out: Path) -> list[dict[str, object]]:
    lines = metrics_of(out)
    return [{name: value for name, value in line.items() if name != "device_peak_bytes"} for line in lines]


def test_a_run_of_the_device_continues_on_the_cpu_and_the_other_way_round(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for step, device in ((2, "cuda"), (4, "cpu"), (NUM_STEPS, "cuda")):
        assert main(argv_of(shards, out, "--max-steps", str(step), "--device", device)) == 0
    assert [line["step"] for line in metrics_of(out) if "loss" in line] == list(range(1, NUM_STEPS + 1))


def test_an_evaluation_repeats_the_predictions_of_the_validation(shards: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "report"
    assert main(argv_of(shards, run, "--precision", "fp32")) == 0
    options = ["--shards", str(shards), "--split", "val", "--out", str(out), "--device", DEVICE.type]
    assert evaluate(["--checkpoint", str(run / "best.pt"), *options]) == 0
    trained, evaluated = (read_predictions(folder / "predictions.csv") for folder in (run, out))
    assert evaluated.key == trained.key
    assert abs(evaluated.predicted_months - trained.predicted_months).max() < 0.5


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("default")  # the compiler advises to use TF32
def test_a_compiled_model_trains(shards: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("plain", "compiled"):
        more = ["--compile"] if name == "compiled" else []
        assert main(argv_of(shards, tmp_path / name, "--max-steps", "3", "--precision", "fp32", *more)) == 0
        losses.append([line["loss"] for line in metrics_of(tmp_path / name) if "loss" in line])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.fault("E1")
def test_on_a_cuda_device_the_step_that_diverged_is_reported_and_not_saved(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There the flag is read one step late, but the diverged step must not reach a checkpoint."""
    out = tmp_path / "diverged"
    argv = argv_of(shards, out, "--lr", "1e30", "--log-every", "100")
    assert main([*argv, "--max-steps", "1"]) == 0
    before = (out / "last.pt").read_bytes()
    assert main([*argv, "--max-steps", "2"]) == 2
    assert "error: step 2:" in capsys.readouterr().err
    assert (out / "last.pt").read_bytes() == before


@pytest.mark.fault("E2")
def test_running_out_of_the_memory_of_the_device_is_reported_with_a_remedy(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.cuda.empty_cache()
    total_bytes = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 30e6) / total_bytes)
    try:
        assert main(argv_of(shards, tmp_path / "large", "--model", "resnet18")) == 2  # 45 MB of weights
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    message = capsys.readouterr().err
    assert "do not fit into the memory of the cuda device" in message
    assert "use a larger --set accumulate" in message
    assert main(argv_of(shards, tmp_path / "small", "--max-steps", "1")) == 0


@pytest.mark.fault("D9")
def test_a_batch_beyond_the_memory_of_the_device_is_refused_before_anything_is_allocated(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = argv_of(shards, tmp_path / "run", "--model", "convnext_tiny", "--batch-size", "1000000")
    assert main(argv) == 2
    assert "the cuda device has too little memory" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
