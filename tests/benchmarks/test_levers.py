import os
import signal
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest

from benchmarks.levers import (
    BASE,
    LEVERS,
    format_table,
    parse_arguments,
    rank_correlation,
    run_until_stopped,
    settings_of,
)
from wds_bone.config_file import settings_as_toml
from wds_bone.learn.settings import TrainConfig

PLANNED = tomllib.loads(LEVERS.read_text())


@pytest.mark.parametrize("name", PLANNED["levers"])
def test_a_lever_changes_settings_of_the_training(name: str):
    settings = settings_of(PLANNED["levers"][name], PLANNED["base"])
    assert TrainConfig(**settings) != TrainConfig(**PLANNED["base"]) or name == BASE
    assert tomllib.loads(settings_as_toml(settings).decode()) == settings


@pytest.mark.parametrize("name", PLANNED["levers"])
def test_the_epochs_of_a_lever_follow_those_of_the_base(name: str):
    short, long = (settings_of(PLANNED["levers"][name], PLANNED["base"] | {"epochs": epochs}) for epochs in (8, 24))
    assert long["epochs"] == 3 * short["epochs"]


def test_the_epochs_of_a_lever_are_a_multiple_of_those_of_the_base_and_at_least_one():
    assert settings_of({"epochs_factor": 0.6, "seed": 1}, {"epochs": 24}) == {"epochs": 14, "seed": 1}
    assert settings_of({"epochs_factor": 0.4, "seed": 1}, {"epochs": 1}) == {"epochs": 1, "seed": 1}


def test_only_known_levers_can_be_chosen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["levers", "--shards", "shards", "--only", "depeer"])
    with pytest.raises(SystemExit):
        parse_arguments(PLANNED["levers"])
    assert "invalid choice: 'depeer'" in capsys.readouterr().err


STOPPED_PROGRAM = """
import os, signal, sys, time
from pathlib import Path

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
ready, ended, code = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
ready.with_suffix(".new").write_text(str(os.getpgrp()))
ready.with_suffix(".new").rename(ready)
num_signals = sum(signal.sigtimedwait([signal.SIGTERM], seconds) is not None for seconds in (60, 0.3))
ended.write_text(f"{num_signals} signals")
sys.exit(code)
"""
"""A training that takes a moment to save after a signal, and notes whether there was a second one."""


@pytest.mark.parametrize(("own_code", "code"), [(3, 3), (0, 128 + signal.SIGTERM)])
@pytest.mark.timeout(120)
def test_a_signal_is_passed_on_once_and_the_end_of_the_training_awaited(tmp_path: Path, own_code: int, code: int):
    ready, ended = tmp_path / "ready", tmp_path / "ended"

    def stop_twice() -> None:
        while not ready.exists():
            time.sleep(0.01)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # so that a failure does not end the tests
    try:
        thread = threading.Thread(target=stop_twice, daemon=True)
        thread.start()
        assert run_until_stopped([sys.executable, "-c", STOPPED_PROGRAM, str(ready), str(ended), str(own_code)]) == code
        thread.join(timeout=60)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.read_text() == "1 signals"
    assert int(ready.read_text()) != os.getpgrp()


def test_the_table_begins_with_the_best_lever_and_shows_what_is_known():
    groups = {"F": {"mae_months": 12.0, "bias_months": -1.0}, "M": {"mae_months": 11.0, "bias_months": 1.0}}
    known = {"bias_months": 0.5, "groups": groups, "minutes": 9.0, "cpu_minutes": 17.5}
    difference = {"mae_difference_months": -0.4, "mae_difference_interval_months": [-0.7, -0.1]}
    rows = {"worse": {"mae_months": 14.0, **known}, "better": {"mae_months": 13.0, **known, **difference}}
    lines = format_table(rows).splitlines()
    assert (
        lines[2] == "| better | 13.00 | -0.40 (-0.70 to -0.10) | +0.50 | 12.0 (-1.0) | 11.0 (+1.0) |  |  | 9.0 | 17.5 |"
    )
    assert lines[3].startswith("| worse | 14.00 | +nan")


def test_the_rank_correlation_compares_the_levers_that_both_schedules_have():
    short = {name: {"mae_months": error} for name, error in {"a": 14.0, "b": 15.0, "c": 16.0, "only": 1.0}.items()}
    longer = {name: {"mae_months": error} for name, error in {"a": 11.0, "b": 11.5, "c": 11.6}.items()}
    assert rank_correlation(short, longer) == pytest.approx(1.0)
    assert rank_correlation(short, longer | {"a": {"mae_months": 20.0}}) == pytest.approx(-0.5)
