import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.phantom.maturity import (
    BOY_MONTHS,
    CARPALS,
    EPIPHYSES,
    FUSED,
    GIRL_MONTHS,
    girl_equivalent,
    stages_at,
)

AGES = st.floats(0, 240)
GENDERS = st.sampled_from(["F", "M"])
SEEDS = st.none() | st.integers(0, 2**64 - 1)


@given(AGES, AGES, GENDERS, SEEDS)
def test_no_stage_decreases_with_age(one_age, other_age, gender, seed):
    younger = stages_at(min(one_age, other_age), gender, seed=seed)
    older = stages_at(max(one_age, other_age), gender, seed=seed)
    assert all(younger[center] <= older[center] for center in younger)


@given(st.floats(6, 240), SEEDS)
def test_a_girl_is_never_behind_a_boy_of_her_age(age, seed):
    girl, boy = stages_at(age, "F", seed=seed), stages_at(age, "M", seed=seed)
    assert all(girl[center] >= boy[center] for center in girl)


@pytest.mark.parametrize(
    ("age", "gender", "num_carpals"), [(24, "F", 3), (24, "M", 2), (60, "F", 7), (60, "M", 4), (120, "F", 8)]
)
def test_the_carpals_appear_at_their_usual_ages(age, gender, num_carpals):
    stages = stages_at(age, gender)
    assert sum(stages[name] > 0 for name in CARPALS) == num_carpals


@pytest.mark.parametrize(("age", "gender"), [(204, "F"), (226, "M")])
def test_no_plate_is_open_in_an_adult(age, gender):
    stages = stages_at(age, gender)
    assert all(stages[name] >= FUSED for name in EPIPHYSES)
    assert stages_at(age - 1, gender)["radius"] < FUSED


@pytest.mark.parametrize("gender", ["F", "M"])
def test_plates_close_from_the_fingertips_to_the_wrist(gender):
    ends = [EPIPHYSES[name][gender][-1] for name in ("DP3", "MC1", "PP3", "MP3", "ulna", "radius")]
    assert ends == sorted(ends)
    assert EPIPHYSES["MP3"][gender][-1] <= EPIPHYSES["MC3"][gender][-1] < EPIPHYSES["ulna"][gender][-1]


@pytest.mark.parametrize("gender", ["F", "M"])
def test_the_events_of_every_center_are_in_order(gender):
    for ages in (*EPIPHYSES.values(), *CARPALS.values()):
        known = [age for age in ages[gender] if not np.isnan(age)]
        assert known == sorted(known)


def test_boys_at_the_tabulated_ages_are_as_mature_as_girls_at_theirs():
    assert [girl_equivalent(age, "M") for age in BOY_MONTHS] == pytest.approx(list(GIRL_MONTHS))
    assert girl_equivalent(100.0, "F") == 100.0


def test_the_lag_of_individual_centers_is_close_to_the_common_lag():
    events = [
        (girl, boy)
        for ages in (*EPIPHYSES.values(), *CARPALS.values())
        for girl, boy in zip(ages["F"], ages["M"], strict=True)
        if not np.isnan(girl)
    ]
    girls, boys = np.array(events).T
    assert np.abs(np.interp(girls, GIRL_MONTHS, BOY_MONTHS) - boys).mean() < 5


def test_natural_asynchrony_separates_wrist_and_fingers_by_a_few_months():
    def carpals_ahead_months(seed):
        stages = stages_at(130, "F", seed=seed)
        wrist = np.interp(stages["capitate"], (2, 3), (38, 156))
        finger = np.interp(stages["PP3"], (3, 4), (108, 132))
        return wrist - finger

    ahead = [carpals_ahead_months(seed) for seed in range(400)]
    assert abs(np.mean(ahead)) < 1
    assert 4 < np.std(ahead) < 6.5
