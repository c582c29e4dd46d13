import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from tests.sample_sets import age_of, image_of
from tests.sharding.film_sets import digests, write_films
from wds_bone.errors import ImageError
from wds_bone.labels.read import Label
from wds_bone.phantom import synthetic_hands
from wds_bone.sharding.plan import ShardPlan
from wds_bone.sharding.sources import Source, synthetic_sources
from wds_bone.sharding.writer import read_record, write_shard
from wds_bone.shards.manifest import ImageFormat

PNG = ImageFormat("png", 16, 16, fit="letterbox")


def plan(folder: Path, num_films: int = 5, age: float | None = None) -> ShardPlan:
    write_films(folder, num_films)
    films = [folder / f"hand-{number}.png" for number in range(num_films)]
    labels = [Label(film.stem, "FM"[n % 2], float(age_of(n)) if age is None else age) for n, film in enumerate(films)]
    sources = [Source(label, film, film.stat().st_size) for label, film in zip(labels, films, strict=True)]
    return ShardPlan("train-000000.tar", tuple(sources))


def write(shard: ShardPlan, folder: Path, image: ImageFormat = PNG, max_bad: int | None = None):
    folder.mkdir(exist_ok=True)
    return write_shard(shard, folder, image, max_bad=max_bad, count=lambda number: None)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_the_labels_and_images_that_were_written(tmp_path: Path):
    write(plan(tmp_path / "films"), tmp_path / "out")
    pattern = str(tmp_path / "out" / "train-{000000..000000}.tar")
    samples = list(webdataset.WebDataset(pattern, shardshuffle=False).decode("l8"))
    assert [sample["__key__"] for sample in samples] == [f"hand-{number}" for number in range(5)]
    for number, sample in enumerate(samples):
        assert sample["json"] == {"age_months": age_of(number), "gender": "FM"[number % 2]}
        assert np.array_equal(sample["png"], image_of(number, 16))


@pytest.mark.fault("B6")
def test_tar_members_contain_no_user_host_or_time(tmp_path: Path):
    write(plan(tmp_path / "films"), tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        for entry in tar:
            facts = (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.mode, entry.pax_headers)
            assert facts == (0, 0, 0, "bigdata", "bigdata", 0o444, {})


def test_whole_ages_are_written_as_integers_and_others_as_floats(tmp_path: Path):
    for age, text in ((180.0, b'"age_months": 180,'), (94.5, b'"age_months": 94.5,')):
        write(plan(tmp_path / "films", 1, age), tmp_path / "out")
        assert text in (tmp_path / "out" / "train-000000.tar").read_bytes()


@pytest.mark.parametrize("image", [PNG, ImageFormat("jpg", 24, 24, 95, "letterbox"), ImageFormat("npy", 8, 8)])
@pytest.mark.fault("B6")
def test_the_same_plan_gives_the_same_bytes_in_any_folder(tmp_path: Path, image: ImageFormat):
    for name in ("one", "two"):
        write(plan(tmp_path / f"films-{name}"), tmp_path / name, image)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "train-000000.idx",
        "train-000000.index.npy",
        "train-000000.json",
        "train-000000.tar",
    ]


def test_a_synthetic_hand_is_stored_with_its_true_age(tmp_path: Path):
    sources = tuple(synthetic_sources(2, seed=7))
    write(ShardPlan("train-000000.tar", sources), tmp_path / "out", ImageFormat("jpg", 64, 64, 95, "letterbox"))
    (hand, _) = synthetic_hands(2, seed=7)
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        member = tar.extractfile(f"{hand.key}.json")
        assert member is not None
        facts = json.load(member)
    assert (facts["age_months"], facts["gender"]) == (hand.age_months, hand.gender)
    assert facts["true_age_months"] == pytest.approx(hand.true_age_months, abs=1e-3)


def corrupt(folder: Path, *numbers: int) -> None:
    """Overwrite the end of films with zeros; their size stays the same, so that the plan is still valid."""
    for number in numbers:
        film = folder / f"hand-{number}.png"
        film.write_bytes(film.read_bytes()[:40].ljust(film.stat().st_size, b"\0"))


@pytest.mark.fault("A8")
def test_a_bad_film_stops_the_shard_and_is_reported(tmp_path: Path):
    shard = plan(tmp_path / "films")
    corrupt(tmp_path / "films", 2)
    with pytest.raises(ImageError, match=r"films/hand-2\.png"):
        write(shard, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.fault("A8")
def test_bad_films_are_left_out_and_recorded_within_the_budget(tmp_path: Path):
    shard = plan(tmp_path / "films")
    corrupt(tmp_path / "films", 1, 2)
    record = write(shard, tmp_path / "out", max_bad=2)
    assert record.entry.num_samples == 3
    assert [bad.key for bad in record.rejected] == ["hand-1", "hand-2"]
    assert str(tmp_path) not in record.rejected[0].problem
    assert read_record(tmp_path / "out", shard.name) == record
    with pytest.raises(ImageError, match=r"too many bad samples(?s:.*)at most 1(?s:.*)bad image: 2"):
        write(shard, tmp_path / "again", max_bad=1)


@pytest.mark.fault("A10")
def test_a_film_that_changed_after_planning_is_refused(tmp_path: Path):
    shard = plan(tmp_path / "films")
    Image.fromarray(image_of(2, 64)).save(tmp_path / "films" / "hand-2.png")
    with pytest.raises(ImageError, match=r"hand-2\.png: changed since"):
        write(shard, tmp_path / "out")
