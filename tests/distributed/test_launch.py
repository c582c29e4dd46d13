"""Test how a process reads the variables of its launcher, and how errors are reported before processes connect."""

import pytest
import torch

from wds_bone.distributed import launch
from wds_bone.distributed.launch import check_launch, open_ranks, report_errors_once
from wds_bone.errors import ConfigError
from wds_bone.interrupt import Interruption, is_launched

VARIABLES = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_there_is_a_single_rank():
    assert not is_launched()
    with open_ranks(CPU, timeout_seconds=1, interruption=Interruption()) as ranks:
        assert (ranks.rank, ranks.world_size, ranks.is_first) == (0, 1, True)
        assert ranks.any(True)
        assert not ranks.any(False)
        assert ranks.share_bytes(b"x") == b"x"
        tensor = torch.tensor([1.0])
        ranks.sum_(tensor)
        assert tensor.tolist() == [1.0]
        assert ranks.gather(tensor).tolist() == [[1.0]]
        ranks.refuse_disagreement({"a": 1})


def test_leftover_variables_do_not_count_as_a_launch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not is_launched()


@pytest.mark.parametrize("missing", VARIABLES)
@pytest.mark.fault("G3")
def test_an_incomplete_launch_is_reported_with_the_missing_variable(missing: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in VARIABLES.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="the launch is incomplete") as refused:
        check_launch()
    assert refused.value.got == f"no {missing}"


@pytest.mark.fault("G3")
def test_several_slurm_tasks_without_a_launcher_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(ConfigError, match="do not know about each other"):
        check_launch()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    check_launch()


@pytest.mark.fault("G3")
def test_one_process_per_machine_reports_an_error_that_all_encounter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail() -> None:
        print("usage")
        raise ConfigError("wrong", do="fix it")

    with pytest.raises(ConfigError, match="wrong"):
        report_errors_once(fail)
    assert capsys.readouterr().out == "usage\n"
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(ConfigError, match="wrong"):
        report_errors_once(fail)  # LOCAL_RANK alone is not a launch
    capsys.readouterr()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr(launch, "REPORT_SECONDS", 0.01)
    with pytest.raises(ConfigError, match="wrong"):  # nobody has ended this process, so nobody has reported the error
        report_errors_once(fail)
    assert capsys.readouterr().out == ""
    assert report_errors_once(lambda: 7) == 7
