"""Test runs and checkpoints of other versions: which are refused, which are read, and what is recorded."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.learn.runs import train_argv
from wds_bone import __version__
from wds_bone.evaluate import main as evaluate
from wds_bone.inference.ensemble import load_ensemble
from wds_bone.model import checkpoint as checkpoint_module
from wds_bone.model.checkpoint import OLD_FORMATS, load_checkpoint, save_checkpoint
from wds_bone.model.preprocess import OLD_NORMALIZATION, normalize_exposure
from wds_bone.train import main

NEW_SETTINGS = {
    "age_bins",
    "rare_ages",
    "gender_fusion",
    "first_layer_rate",
    "first_size",
    "augment_saturation",
    "augment_sharpness",
    "augment_clahe",
    "augment_noise",
    "augment_jpeg",
    "augment_frame",
    "augment_erase",
}
"""Those that came with the present normalization."""
AGE_ITSELF = ("--set", "age_bins=0")


@pytest.fixture(scope="module")
def run_of_ages(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped after its first validation, and whose model predicts the age itself."""
    out = tmp_path_factory.mktemp("run-of-ages") / "run"
    assert main(train_argv(shards, out, "--max-steps", "3", *AGE_ITSELF)) == 0
    return out


@pytest.fixture
def stopped(run_of_ages: Path, tmp_path: Path) -> Path:
    """A copy of that run, which a test may change."""
    return Path(shutil.copytree(run_of_ages, tmp_path / "run"))


def as_format(number: int, path: Path, monkeypatch: pytest.MonkeyPatch, **config: Any) -> None:
    """Write the checkpoint `last.pt` next to `path`, as an older version of the format has it, to `path`."""
    contents = load_checkpoint(path.with_name("last.pt"))
    old = {name: value for name, value in contents.items() if name not in ("format", "calibration", "trained_on")}
    old["config"], old["preprocessing"] = old["config"] | config, dict(old["preprocessing"])
    if number < 3:
        del old["preprocessing"]["phase_pixels"]
        old["preprocessing"]["normalization"] = OLD_NORMALIZATION
    if number < 2:
        del old["code"]
        old["average"], old["optimiser"] = old.pop("ema"), old.pop("optimizer")
        old["preprocessing"]["normalisation"] = old["preprocessing"].pop("normalization")
        old["versions"] = old["versions"] | {"wds_bone": "0.1.0"}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "FORMAT", OLD_FORMATS[number - 1])
        save_checkpoint(path, old)


@pytest.mark.fault("E9")
def test_resuming_a_run_of_0_1_0_is_refused_because_of_its_version_rather_than_its_settings(
    shards: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    as_format(1, stopped / "last.pt", monkeypatch, weight_decay=0.3)
    assert main(train_argv(shards, stopped)) == 2
    message = capsys.readouterr().err
    assert f"expected: wds_bone 0.1.0\n  got:      wds_bone {__version__}" in message
    assert "weight_decay" not in message


@pytest.mark.fault("E9")
def test_the_folder_of_a_run_of_0_1_0_without_a_checkpoint_is_refused_because_of_its_version(
    shards: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("last.pt", "best.pt"):
        (stopped / name).unlink()
    provenance = json.loads((stopped / "run.json").read_text())
    provenance["versions"]["wds_bone"] = "0.1.0"
    for name in ("history", "code"):
        del provenance[name]
    (stopped / "run.json").write_text(json.dumps(provenance))
    assert main(train_argv(shards, stopped)) == 2
    assert "expected: wds_bone 0.1.0" in capsys.readouterr().err


@pytest.mark.parametrize("number", [1, 2])
def test_an_older_checkpoint_predicts_the_same_bytes_as_the_version_that_wrote_it(
    number: int, stopped: Path, monkeypatch: pytest.MonkeyPatch
):
    """Those versions gave the model the normalized image and its mirror image, without resampling."""
    as_format(number, stopped / "best.pt", monkeypatch)
    predictor = load_ensemble([stopped / "best.pt"], device="cpu").members[0].predictor
    image = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    gender = torch.tensor([0.0, 1.0, 0.0, 1.0])
    normalized = normalize_exposure(image.float())
    both = torch.cat([normalized, normalized.flip(3)]).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = predictor.target.to_months(predictor.model(both, gender.repeat(2)).view(2, -1).mean(0))
    assert torch.equal(predictor.predict_months(image, gender), expected)


@pytest.mark.fault("E9")
def test_a_checkpoint_of_format_3_is_read_as_one_that_is_not_calibrated(
    shards: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
):
    current = load_checkpoint(stopped / "last.pt")
    as_format(3, stopped / "best.pt", monkeypatch)
    older = load_checkpoint(stopped / "best.pt")
    assert older.keys() == current.keys()
    for name in ("format", "preprocessing", "target", "progress", "config", "versions", "calibration"):
        assert older[name] == current[name]
    assert older["trained_on"] is None


@pytest.mark.fault("E9")
def test_a_checkpoint_of_format_1_evaluates_as_one_of_format_2(
    shards: Path, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    argv = ["--checkpoint", str(stopped / "best.pt"), "--shards", str(shards), "--split", "val", "--device", "cpu"]
    as_format(2, stopped / "best.pt", monkeypatch)
    assert evaluate([*argv, "--out", str(tmp_path / "newer")]) == 0
    as_format(1, stopped / "best.pt", monkeypatch)
    assert evaluate([*argv, "--out", str(tmp_path / "older")]) == 0
    tables = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("newer", "older")]
    assert tables[0] == tables[1]


def as_older_run(folder: Path, *, without: set[str] = NEW_SETTINGS) -> None:
    """Change a run to one with the old normalization, which had fewer settings and the same version number."""
    for name in ("last.pt", "best.pt"):
        contents = load_checkpoint(folder / name)
        contents["config"] = {key: value for key, value in contents["config"].items() if key not in without}
        contents["preprocessing"] = contents["preprocessing"] | {"normalization": OLD_NORMALIZATION}
        for group in contents.get("optimizer", {}).get("param_groups", []):
            del group["rate_factor"]
        save_checkpoint(folder / name, contents)
    run = json.loads((folder / "run.json").read_text())  # it does not name the normalization
    run["config"] = {key: value for key, value in run["config"].items() if key not in without}
    (folder / "run.json").write_text(json.dumps(run))


@pytest.mark.fault("E9")
@pytest.mark.parametrize(
    ("without", "got"),
    [(NEW_SETTINGS, ", no --set age_bins, no --set rare_ages, "), (set(), "\n")],
    ids=["fewer settings", "same settings"],
)
def test_a_run_that_was_begun_with_the_old_normalization_is_not_continued_but_gives_a_new_one_its_weights(
    without: set[str], got: str, shards: Path, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    as_older_run(stopped, without=without)
    before = (stopped / "last.pt").read_bytes()
    assert main(train_argv(shards, stopped, *AGE_ITSELF)) == 2
    message = capsys.readouterr().err
    assert f"got:      normalization {OLD_NORMALIZATION}{got}" in message
    assert "--init-weights with its best.pt, if it has one, --model" in message
    recommended = shlex.split(message.partition("if it has one, ")[2].replace(" and ", " "))
    assert (stopped / "last.pt").read_bytes() == before
    weights = ("--init-weights", str(stopped / "best.pt"), "--max-steps", "1", *recommended)
    assert main(train_argv(shards, tmp_path / "other", *weights)) == 0


@pytest.mark.fault("E9")
def test_the_folder_of_an_older_run_without_a_checkpoint_is_refused_because_it_had_fewer_settings(
    shards: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
):
    as_older_run(stopped)
    for name in ("last.pt", "best.pt"):
        (stopped / name).unlink()
    assert main(train_argv(shards, stopped)) == 2
    message = capsys.readouterr().err
    assert "got:      no --set age_bins, no --set rare_ages, " in message
    assert "do:       start a new run with another --out" in message


def test_a_checkpoint_of_0_1_0_can_provide_initial_weights(
    shards: Path, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ema = load_checkpoint(stopped / "best.pt")["ema"]
    as_format(1, stopped / "best.pt", monkeypatch)
    more = ("--init-weights", str(stopped / "best.pt"), "--lr", "0", "--max-steps", "1", *AGE_ITSELF, "weight_decay=0")
    assert main(train_argv(shards, tmp_path / "tuned", *more)) == 0
    model = load_checkpoint(tmp_path / "tuned" / "last.pt")["model"]
    assert all(torch.equal(model[name], ema[name]) for name in ema if name.endswith("weight"))


@pytest.mark.fault("E9")
def test_every_launch_is_recorded_in_the_history_of_the_run(
    shards: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(train_argv(shards, stopped, *AGE_ITSELF)) == 0
    assert "warning" not in capsys.readouterr().err
    run = json.loads((stopped / "run.json").read_text())
    assert [launch["step"] for launch in run["history"]] == [0, 3]
    assert {launch["code"] for launch in run["history"]} == {run["code"]}
    assert {launch["versions"]["wds_bone"] for launch in run["history"]} == {__version__}


@pytest.mark.fault("E9")
def test_changed_code_or_a_changed_torch_causes_a_warning_and_is_recorded(
    shards: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("wds_bone.learn.assemble.code_digest", lambda: "other code")
    versions = json.loads((stopped / "run.json").read_text())["versions"]
    monkeypatch.setattr("wds_bone.learn.assemble.installed_versions", lambda *models: versions | {"torch": "9.9"})
    assert main(train_argv(shards, stopped, *AGE_ITSELF)) == 0
    message = capsys.readouterr().err
    assert f"warning: changed since the checkpoint was saved: torch {versions['torch']} -> 9.9" in message
    assert "the code of wds_bone" in message
    first, second = json.loads((stopped / "run.json").read_text())["history"]
    assert (first["versions"]["torch"], second["versions"]["torch"]) == (versions["torch"], "9.9")
    assert second["code"] == "other code"
