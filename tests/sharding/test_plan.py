from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ConfigError
from wds_bone.labels.read import Label
from wds_bone.sharding.plan import SplitPlan, assign_splits, default_samples_per_shard, plan_split
from wds_bone.sharding.sources import Source
from wds_bone.shards.manifest import ImageFormat

IMAGE = ImageFormat("jpg", 64, 64, quality=95, fit="letterbox")
SOURCES = [Source(Label(f"hand-{n}", "FM"[n % 2], 12.0 * n), Path(f"/films/hand-{n}.png"), 1000 + n) for n in range(20)]


def digest(sources=SOURCES, image=IMAGE, samples_per_shard: int = 6, name: str = "train") -> str:
    return plan_split(name, sources, image, samples_per_shard=samples_per_shard).digest


def change(index: int, **fields) -> list[Source]:
    return [replace(source, **fields) if i == index else source for i, source in enumerate(SOURCES)]


@pytest.mark.parametrize(
    "other",
    [
        digest(SOURCES[:-1]),
        digest(SOURCES[::-1]),
        digest(change(3, label=Label("hand-x", "M", 36.0))),
        digest(change(3, label=Label("hand-3", "F", 36.0))),
        digest(change(3, label=Label("hand-3", "M", 36.5))),
        digest(change(3, fingerprint=5)),
        digest(change(3, group=0)),
        digest(image=replace(IMAGE, height=65, width=65)),
        digest(image=replace(IMAGE, encoding="png")),
        digest(image=replace(IMAGE, quality=90)),
        digest(image=replace(IMAGE, stretch=(1.0, 99.0))),
        digest(samples_per_shard=7),
        digest(name="val"),
    ],
)
def test_everything_that_determines_the_bytes_changes_the_digest(other: str):
    assert other != digest()


def test_the_digest_of_a_plan_without_patients_is_that_of_all_versions():
    # A complete set is not written again after an upgrade. Change this digest only with the format version.
    assert digest() == "012b47f6c7a6047282e497cc42bfbda29909373ad953ea57bcf1cc9a84aa7c92"


def test_the_folder_of_the_films_is_not_in_the_digest():
    assert digest(change(3, image=Path("/elsewhere/hand-3.png"))) == digest()


@given(st.integers(1, 20), st.integers(1, 25))
def test_shards_hold_all_sources_in_order_and_are_numbered(num_sources: int, size: int):
    split = plan_split("train", SOURCES[:num_sources], IMAGE, samples_per_shard=size)
    assert [source for shard in split.shards for source in shard.sources] == SOURCES[:num_sources]
    assert [shard.name for shard in split.shards] == [f"train-{n:06d}.tar" for n in range(len(split.shards))]
    assert all(len(shard.sources) <= size for shard in split.shards)
    assert isinstance(split, SplitPlan)
    assert split.num_samples == num_sources


def test_a_named_split_takes_all_samples_and_a_fraction_gives_train_and_val():
    named = assign_splits(SOURCES, named="test", val_fraction=0.1, seed=0)
    assert {name: len(part) for name, part in named.items()} == {"test": 20}
    divided = assign_splits(SOURCES, named=None, val_fraction=0.25, seed=0)
    assert {name: len(part) for name, part in divided.items()} == {"train": 15, "val": 5}
    assert list(assign_splits(SOURCES, named=None, val_fraction=0.0, seed=0)) == ["train"]


@pytest.mark.parametrize(
    ("sources", "fraction"), [([], 0.1), (SOURCES[:1], 0.1), (SOURCES[:3], 0.1), (SOURCES[:3], 0.9)]
)
def test_a_split_without_samples_is_refused(sources: list[Source], fraction: float):
    with pytest.raises(ConfigError, match="would be empty"):
        assign_splits(sources, named=None, val_fraction=fraction, seed=0)


@pytest.mark.parametrize(("num_samples", "size"), [(1, 64), (240, 64), (2000, 167), (12_611, 1000), (10**6, 1000)])
def test_a_set_has_about_a_dozen_shards_unless_it_is_small_or_large(num_samples: int, size: int):
    assert default_samples_per_shard(num_samples) == size
