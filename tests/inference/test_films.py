"""Test `predict_films`: every film has the prediction that it has in a shard, whatever is predicted with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.learn.runs import SINGLE_RANK
from tests.report.trained import LETTERBOXED, format_of, shard_films, write_checkpoint, write_films
from wds_bone.errors import ImageError, WdsBoneError
from wds_bone.inference.ensemble import Ensemble, load_ensemble
from wds_bone.inference.epoch import predict_epoch
from wds_bone.inference.films import BATCH_SIZE, Outcome, predict_films
from wds_bone.model.model import build_model
from wds_bone.stream.stream import BoneAgeStream

CPU = torch.device("cpu")
NUM_FILMS = 2 * BATCH_SIZE + 1
GENDERS: Any = tuple("FM"[number % 2] for number in range(NUM_FILMS))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_films(tmp_path_factory.mktemp("films") / "films", NUM_FILMS)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    return load_ensemble([write_checkpoint(tmp_path_factory.mktemp("c") / "best.pt", LETTERBOXED)], device="cpu")


def predicted(ensemble: Ensemble, films: Sequence[Any], genders: Any, **options: Any) -> list[Outcome | WdsBoneError]:
    return list(predict_films(ensemble, films, genders, device=CPU, **{"threads": 2, **options}))


def months_of(outcomes: Sequence[Outcome | WdsBoneError]) -> list[np.float32]:
    return [outcome.months for outcome in outcomes if isinstance(outcome, Outcome)]


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_a_prediction_does_not_depend_on_the_films_around_it(tmp_path: Path, films: list[Path], name: str) -> None:
    torch.manual_seed(0)
    ensemble = load_ensemble(
        [write_checkpoint(tmp_path / "best.pt", LETTERBOXED, model=build_model(name), name=name)], device="cpu"
    )
    together = months_of(predicted(ensemble, films, GENDERS))
    alone = [months_of(predicted(ensemble, [film], [gender]))[0] for film, gender in zip(films, GENDERS, strict=True)]
    backward = months_of(predicted(ensemble, films[::-1], GENDERS[::-1]))
    missing = Path("missing.png")
    among_errors = predicted(ensemble, [missing, films[3], missing, missing, films[0]], ["F", "M", "F", "M", "F"])
    assert together == alone == backward[::-1]
    assert len(set(together)) == NUM_FILMS
    assert months_of(among_errors) == [together[3], together[0]]


@pytest.mark.parametrize("encoding", ["png", "jpg"])
def test_predictions_for_films_equal_those_for_their_shards_to_the_digit(
    tmp_path: Path, films: list[Path], encoding: str
) -> None:
    manifest = shard_films(films[0].parent, tmp_path / "shards", encoding=encoding)
    ensemble = load_ensemble([write_checkpoint(tmp_path / "best.pt", format_of(manifest))], device="cpu")
    with BoneAgeStream(manifest, batch_size=8, shuffle=False, threads=1) as stream:
        from_shards = predict_epoch(ensemble, stream, SINGLE_RANK)
    assert from_shards is not None
    expected = dict(zip(from_shards.key, from_shards.predicted_months, strict=True))
    from_films = months_of(predicted(ensemble, films, GENDERS, batch_size=8))
    assert from_films == [expected[film.stem] for film in films]


def test_every_outcome_is_in_the_place_of_its_film(ensemble: Ensemble, films: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    given = [films[0], tmp_path / "broken.png", films[1], tmp_path, films[2]]
    outcomes = predicted(ensemble, given, ["F"] * 5)
    assert [isinstance(outcome, Outcome) for outcome in outcomes] == [True, False, True, False, True]
    assert [outcome.path for outcome in outcomes if isinstance(outcome, Outcome)] == films[:3]
    assert isinstance(outcomes[1], ImageError)
    assert "broken.png" in outcomes[1].problem
    assert f"{tmp_path}: is a folder" in str(outcomes[3])


def test_films_in_memory_have_the_predictions_of_their_files(ensemble: Ensemble, films: list[Path]) -> None:
    expected = months_of(predicted(ensemble, films, GENDERS))
    arrays = [np.asarray(Image.open(film)) for film in films]
    pictures = [Image.open(film) for film in films]
    assert months_of(predicted(ensemble, arrays, GENDERS)) == expected
    assert months_of(predicted(ensemble, pictures, GENDERS)) == expected
    outcome = predicted(ensemble, [*arrays[:2], np.zeros((9, 9))], ["F"] * 3)[2]
    assert str(outcome).startswith("films[2]: the array is not a film")


def test_the_number_of_threads_changes_nothing(ensemble: Ensemble, films: list[Path]) -> None:
    outcomes = [months_of(predicted(ensemble, films, GENDERS, threads=threads)) for threads in (1, 3, None)]
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_no_films_are_no_error(ensemble: Ensemble) -> None:
    assert predicted(ensemble, [], []) == []


@pytest.mark.parametrize("num_genders", [1, BATCH_SIZE + 1])
def test_genders_and_films_must_be_as_many(ensemble: Ensemble, films: list[Path], num_genders: int) -> None:
    outcomes = predict_films(ensemble, films[:BATCH_SIZE], ["F"] * num_genders, device=CPU, threads=1)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        next(outcomes)
