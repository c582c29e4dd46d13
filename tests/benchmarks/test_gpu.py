"""Test `make gpu` without a GPU: every part runs, and what fails or hangs hides nothing."""

import importlib.metadata
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from PIL import Image

from benchmarks.gpu import carry
from benchmarks.gpu.__main__ import PARTS, add_ending
from benchmarks.gpu.carry import LABELS_NAME, collect_films, megabytes_in, missing_packages, stored_size
from benchmarks.gpu.decoders import find_nvjpeg
from benchmarks.gpu.limited import ROOT, TIMED_OUT, Ended, run_limited
from benchmarks.gpu.report import Report
from benchmarks.gpu.requirements import describe_unmet, unmet_requirements
from benchmarks.gpu.tests import cuda_test_files, run_files
from benchmarks.gpu.train import compare, summarize
from benchmarks.targets import Target
from tests.sample_sets import image_of
from wds_bone.labels.read import read_labels


def read(path: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads(path.read_text())
    return contents


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_can_be_tried_out_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {name: read(tmp_path / f"gpu-{name}-cpu.json") for name in PARTS}
    assert {name: (result["exit_code"], result["errors"]) for name, result in results.items()} == dict.fromkeys(
        PARTS, (0, [])
    )
    assert results["tests"]["skipped"] == len(results["tests"]["tests"]) > 20
    assert {test["message"].splitlines()[0] for test in results["tests"]["tests"]} == {"needs a CUDA device"}
    (model,) = results["headspace"]["models"].values()
    assert min(model["images_per_second"]["stream"]) > 0
    assert model["settings"]["precision"] == "bf16"
    assert set(results["loader"]["sizes"]) == {"64", "128"}
    assert results["loader"]["sizes"]["64"]["of_linear"]["stream"]["1"] == 1.0
    assert {len(values) for values in results["loader"]["sizes"]["64"]["cpu_seconds_per_image"].values()} == {3}
    assert results["train"]["validation"]["val_mae_months"] > 0
    assert results["train"]["images_per_second"] > 0
    assert results["train"]["evaluation"]["errors"]["all"]["num_samples"] == 4
    assert set(read(tmp_path / "gpu-summary-cpu.json")["parts"]) == set(PARTS)


@pytest.mark.slow
def test_parts_that_do_not_exist_and_longer_times_are_refused(tmp_path: Path) -> None:
    for wrong, message in ((["lader"], "unknown part lader"), (["--minutes", "9"], "--minutes 9 is out of range")):
        command = [sys.executable, "-m", "benchmarks.gpu", *wrong, "--out", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_command_that_fails_gives_its_exit_code_and_the_end_of_its_output() -> None:
    code = "import sys; print('first'); print('second', file=sys.stderr); sys.exit(3)"
    ended = run_limited([sys.executable, "-c", code], seconds=60)
    assert ended.exit_code == 3
    assert sorted(ended.tail) == ["first", "second"]


def test_nothing_is_left_of_the_process_group_of_a_command(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    # The child keeps the pipe open as long as it lives.
    code = "exec 3>fifo; sleep 600 & echo started"
    ended = run_limited(["bash", "-c", f"cd {tmp_path}; {code}"], seconds=60, own_group=True)
    assert (ended.exit_code, ended.tail) == (0, ("started",))
    assert select.select([reader], [], [], 60)[0] == [reader]
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.parametrize(("action", "tail"), [("echo stopping; exit 0", ("stopping",)), ("", ())])
def test_a_command_that_takes_too_long_is_interrupted_and_then_killed(action: str, tail: tuple[str, ...]) -> None:
    """Interrupted, a test ends the processes that it launched, which have sessions of their own."""
    endless = f"trap '{action}' INT; while true; do sleep 0.05; done"
    ended = run_limited(["bash", "-c", endless], seconds=5, stop_seconds=20 if action else 0.5)
    assert (ended.exit_code, ended.tail) == (TIMED_OUT, tail)
    assert ended.seconds < 25


def test_a_part_that_is_killed_keeps_what_it_measured_and_its_error(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu-loader-cuda.json", deadline=0.0)
    report.add(speed=17)
    report.add_targets([Target("of linear", 0.7, minimum=0.8)])
    outcome = add_ending(report.path, Ended(TIMED_OUT, 480.0, ("the last line",)), seconds=480)
    written = read(report.path)
    assert (written["speed"], written["exit_code"], written["output"]) == (17, TIMED_OUT, ["the last line"])
    assert written["error"] == outcome["error"] == "ended after 480 seconds"
    assert [target["is_met"] for target in outcome["targets"]] == [False]


def test_a_part_that_cannot_even_start_has_its_output_as_the_error(tmp_path: Path) -> None:
    path = tmp_path / "gpu-train-cuda.json"
    add_ending(path, Ended(1, 0.5, ("Traceback", "ImportError: no torch")), seconds=480)
    assert read(path)["error"] == "Traceback\nImportError: no torch"


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        (Ended(1, 9.0, ("ValueError: x",)), "resnet18: exit code 1\nValueError: x"),
        (Ended(-11, 9.0, ("Segmentation fault",)), "resnet18: exit code 1\nSegmentation fault"),
        (Ended(TIMED_OUT, 480.0, ("a line",)), "resnet18: exit code 1\nended after 480 seconds"),
    ],
)
def test_a_part_that_records_an_error_and_then_crashes_has_both(ended: Ended, error: str, tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu-headspace-cuda.json", deadline=0.0)
    report.add_error("resnet18: exit code 1")
    assert add_ending(report.path, ended, seconds=480)["error"] == error


def test_a_part_that_continues_after_an_error_has_only_that_one(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu-headspace-cuda.json", deadline=0.0)
    report.add_error("resnet18: exit code 1")
    report.add(is_complete=True)
    assert add_ending(report.path, Ended(1, 9.0, ("a line",)), seconds=480)["error"] == "resnet18: exit code 1"


def test_the_tests_that_launch_processes_are_run_last() -> None:
    names = [Path(name).name for name in cuda_test_files()]
    assert names[-1] == "test_nccl_cuda.py"
    assert len(names) > 3


def test_a_file_of_tests_that_there_is_no_time_for_is_an_error(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu-tests-cuda.json", deadline=0.0)
    assert run_files(["tests/test_x_cuda.py"], report) == []
    assert report.errors == ["tests/test_x_cuda.py: not run, no time left"]


def validation_of(mae_months: float) -> dict[str, Any]:
    return {"val_mae_months": mae_months, "constant_mae_months": 30.0}


def evaluation_of(mae_months: float) -> dict[str, Any]:
    return {"errors": {"all": {"mae_months": mae_months}}}


def test_the_validation_of_the_best_checkpoint_is_reported() -> None:
    lines = [{"loss": 1.0, "wait_fraction": 0.5}, *map(validation_of, (9.0, 7.0, 8.0))]
    assert summarize(lines) == {"wait_fraction": 0.5, "validation": validation_of(7.0)}
    assert summarize([])["validation"] is None


@pytest.mark.parametrize(
    ("trained", "evaluated", "must_learn", "errors"),
    [
        (9.0, 9.2, True, []),
        (31.0, 31.0, False, []),
        (9.0, 9.4, True, ["the evaluation has a mean error of 9.400 months, the validation one of 9.000"]),
        (31.0, 31.0, True, ["the model has a mean error of 31.00 months, the best constant one of 30.00"]),
        (float("nan"), 9.0, True, ["the evaluation", "the model"]),
    ],
)
def test_a_training_must_learn_and_its_evaluation_must_agree(
    trained: float, evaluated: float, must_learn: bool, errors: list[str]
) -> None:
    found = list(compare(validation_of(trained), evaluation_of(evaluated), must_learn=must_learn))
    assert [line.startswith(error) for line, error in zip(found, errors, strict=True)] == [True] * len(errors)


def test_a_package_that_is_missing_or_too_old_is_named() -> None:
    pillow = importlib.metadata.version("Pillow")
    assert describe_unmet(Requirement("Pillow>=1.0")) is None
    assert describe_unmet(Requirement("Pillow>=1000")) == f"Pillow>=1000: version {pillow} is installed"
    assert describe_unmet(Requirement("wds-bone-nothing>=1")) == "wds-bone-nothing>=1: is not installed"
    assert unmet_requirements() == []


def test_without_a_gpu_there_is_no_nvjpeg_and_the_reason_is_given() -> None:
    assert find_nvjpeg("cpu") == (None, "not available on the CPU")


def test_what_is_too_large_to_carry_is_deleted_so_that_the_command_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collect_wheels(folder: Path, packages: list[str]) -> None:
        folder.mkdir(parents=True)
        (folder / "large.whl").write_bytes(bytes(2000))

    monkeypatch.setattr(carry, "collect_wheels", collect_wheels)  # which needs a network
    monkeypatch.setattr(carry, "MAX_MEGABYTES", 0.001)
    monkeypatch.setattr(sys, "argv", ["carry", "--out", str(tmp_path / "carried")])
    with pytest.raises(SystemExit, match="too large"):
        carry.main()
    assert not (tmp_path / "carried").exists()
    monkeypatch.setattr(carry, "MAX_MEGABYTES", 0.01)
    carry.main()
    assert (tmp_path / "carried" / "wheels" / "large.whl").exists()


def test_films_are_carried_up_to_a_size_with_their_labels(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for number in range(6):
        Image.fromarray(image_of(number, 64)).save(films / f"{number}.png")
    table = tmp_path / "table.csv"
    table.write_text(
        "id,boneage,male\n" + "".join(f"{number},{10 + number},{number % 2 == 1}\n" for number in range(8))
    )
    assert collect_films(tmp_path / "all", table, films, size=32, megabytes=1) == 6
    whole = megabytes_in(tmp_path / "all")
    number = collect_films(tmp_path / "some", table, films, size=32, megabytes=whole / 2)
    assert 1 <= number < 6
    assert stored_size(tmp_path / "some") == 32
    carried = read_labels(str(tmp_path / "some" / LABELS_NAME))
    expected = {label.key: label for label in read_labels(str(table))}
    assert [expected[label.key] for label in carried] == carried
    assert {label.key for label in carried} == {path.stem for path in (tmp_path / "some").glob("*.jpg")}


def test_the_packages_that_must_be_carried_are_these() -> None:
    # A new one makes what is carried larger; change this list and the sizes in docs/gpu.md together.
    names = {requirement.partition(">=")[0] for requirement in missing_packages()}
    assert names == {"braceexpand", "imagecodecs", "simplejpeg", "tomli-w", "webdataset", "zlib-ng"}
