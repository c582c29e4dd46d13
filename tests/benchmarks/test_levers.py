import tomllib

import pytest

from benchmarks.levers import BASE, LEVERS, format_table, rank_correlation
from wds_bone.config_file import settings_as_toml
from wds_bone.learn.settings import TrainConfig

PLANNED = tomllib.loads(LEVERS.read_text())


@pytest.mark.parametrize("name", PLANNED["levers"])
def test_a_lever_changes_settings_of_the_training(name: str):
    settings = PLANNED["base"] | PLANNED["levers"][name]
    assert TrainConfig(**settings) != TrainConfig(**PLANNED["base"]) or name == BASE
    assert tomllib.loads(settings_as_toml(settings).decode()) == settings


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
