from pathlib import Path

import numpy as np
import pytest

from benchmarks.robustness import errors_months, format_table, summarize
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
