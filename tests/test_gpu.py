"""Test `make gpu` without a GPU: every part runs, and what fails or hangs hides nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.gpu.__main__ import PARTS, add_ending
from benchmarks.gpu.carry import LABELS_NAME, collect_films, megabytes_in, missing_packages, stored_size
from benchmarks.gpu.limited import ROOT, TIMED_OUT, Ended, run_limited
from benchmarks.gpu.report import Report
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


def test_a_command_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time, pathlib; time.sleep(2); pathlib.Path({str(alive)!r}).touch()"
    code = f"import subprocess, sys; print('started', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    ended = run_limited([sys.executable, "-c", code], seconds=1, own_group=True)
    assert ended.exit_code == TIMED_OUT
    assert run_limited([sys.executable, "-c", "import time; time.sleep(2)"], seconds=60).exit_code == 0
    assert not alive.exists()


def test_a_part_that_is_killed_keeps_what_it_measured_and_its_error(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu-loader-cuda.json", deadline=0.0)
    report.add(speed=17)
    report.add_targets([Target("of linear", 0.7, minimum=0.8)])
    outcome = add_ending(report.path, Ended(TIMED_OUT, 480.0, ("the last line",)), seconds=480)
    written = read(report.path)
    assert (written["speed"], written["exit_code"], written["output"]) == (17, TIMED_OUT, ["the last line"])
    assert written["error"] == outcome["error"] == "killed after 480 seconds"
    assert [target["is_met"] for target in outcome["targets"]] == [False]


def test_a_part_that_cannot_even_start_has_its_output_as_the_error(tmp_path: Path) -> None:
    path = tmp_path / "gpu-train-cuda.json"
    add_ending(path, Ended(1, 0.5, ("Traceback", "ImportError: no torch")), seconds=480)
    assert read(path)["error"] == "Traceback\nImportError: no torch"


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
