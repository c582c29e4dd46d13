from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.robustness import contrasts_of, errors_months, format_groups, format_table, summarize
from wds_bone import BoneAgeStream
from wds_bone.inference.ensemble import load_ensemble


def test_a_change_passes_if_it_costs_little_and_hardly_moves_the_bias():
    reference = np.tile([10.0, -10.0], 100)
    unchanged, biased, worse = (summarize(errors, reference) for errors in (reference, reference + 2, reference * 1.1))
    assert (unchanged["cost_months"], unchanged["bias_change_months"], unchanged["passes"]) == (0.0, 0.0, True)
    assert (biased["cost_months"], biased["bias_change_months"], biased["passes"]) == (0.0, 2.0, False)
    assert worse["cost_months"] == pytest.approx(1.0)
    assert worse["cost_interval_months"] == pytest.approx([1.0, 1.0])
    assert not worse["passes"]
    assert [line.endswith("| fails |") for line in format_table({"a": unchanged, "b": biased}).splitlines()[2:]] == [
        False,
        True,
    ]


def test_errors_are_those_of_the_changed_films_in_the_order_of_the_stream(finished: Path, shards: Path):
    ensemble = load_ensemble([finished / "best.pt"], device="cpu")
    with BoneAgeStream(shards, split="val", batch_size=4, shuffle=False) as stream:
        plain, again, black = (
            errors_months(ensemble, stream, change, num_batches=None)
            for change in (lambda image: image, lambda image: image.clone(), lambda image: image * 0)
        )
        first = errors_months(ensemble, stream, lambda image: image, num_batches=1)
    assert plain.shape == (5,)
    assert np.array_equal(plain, again)
    assert np.array_equal(plain[:4], first)
    assert not np.array_equal(plain, black)


def test_the_contrast_is_that_of_the_hand_and_not_of_a_marker():
    films = torch.full((2, 1, 64, 64), 20, dtype=torch.uint8)
    films[0, :, 16:48, 16:48], films[1, :, 16:48, 16:48] = 60, 200
    films[:, :, 10:12, 10:12] = 255
    assert contrasts_of(films).tolist() == contrasts_of(255 - films).tolist() == [40.0, 180.0]


def test_each_film_is_in_one_group_of_contrast():
    errors = {"as stored": np.array([1.0, -2.0, 3.0, 4.0] * 50), "noise": np.array([5.0, 2.0, 3.0, 4.0] * 50)}
    lines = format_groups(errors, np.array([15.0, 90.0, 90.0, 150.0] * 50)).splitlines()
    assert lines == [
        "| gray values | films | as stored | noise |",
        "|---|---|---|---|",
        "| 15 to 15 | 50 | 1.00 | 5.00 |",
        "| 90 to 90 | 100 | 2.50 | 2.50 |",
        "| 150 to 150 | 50 | 4.00 | 4.00 |",
    ]
