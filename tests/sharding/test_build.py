from itertools import pairwise
from pathlib import Path

import pytest

from tests.sharding.film_sets import digests, keys, make, names_in, write_films
from wds_bone.index import main as index
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest
from wds_bone.shards.scan import scan_shard

SET_FILES = {"age-histogram.png", "contact-sheet.png", MANIFEST_NAME}


def modification_times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix != ".lock"}


def test_a_set_consists_of_shards_sidecars_pictures_and_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    films = write_films(tmp_path / "films", 20)
    assert make(tmp_path / "out", *films) == 0
    shards = ["train-000000", "train-000001", "train-000002", "val-000000"]
    sidecars = {name + suffix for name in shards for suffix in (".tar", ".index.npy", ".idx")}
    assert names_in(tmp_path / "out") == sorted(SET_FILES | sidecars)
    assert keys(tmp_path / "out", "train") | keys(tmp_path / "out", "val") == {f"hand-{n}" for n in range(20)}
    assert "train: 18 samples in 3 shards" in capsys.readouterr().out


def test_no_shard_is_sorted_by_age_or_key(tmp_path: Path):
    make(tmp_path / "out", *write_films(tmp_path / "films", 40), "--samples-per-shard", "40")
    table = scan_shard(tmp_path / "out" / "train-000000.tar").table
    for column in (table["age_months"].tolist(), [int(key[5:]) for key in table["key"].tolist()]):
        assert column not in (sorted(column), sorted(column, reverse=True))
        assert sum(a < b for a, b in pairwise(column)) in range(10, 27)


@pytest.mark.fault("B4")
def test_a_repeated_run_reports_a_complete_set_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    films = write_films(tmp_path / "films", 12)
    make(tmp_path / "out", *films)
    before = modification_times(tmp_path / "out")
    capsys.readouterr()
    assert make(tmp_path / "out", *films) == 0
    assert "already complete" in capsys.readouterr().out
    assert modification_times(tmp_path / "out") == before


def test_films_that_changed_but_kept_their_size_are_read_again_with_replace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, films = tmp_path / "out", write_films(tmp_path / "films", 12)
    make(out, *films)
    before = digests(out)
    film, other = (tmp_path / "films" / f"hand-{number}.png" for number in (3, 5))
    num_bytes = film.stat().st_size
    film.write_bytes(other.read_bytes())
    assert film.stat().st_size == num_bytes
    capsys.readouterr()
    assert make(out, *films, "--replace") == 0
    assert "already complete" not in capsys.readouterr().out
    make(tmp_path / "fresh", *films)
    assert digests(out) == digests(tmp_path / "fresh") != before


@pytest.mark.fault("B6")
def test_the_set_does_not_depend_on_the_folder_of_the_films_or_the_order_of_the_table(tmp_path: Path):
    make(tmp_path / "one", *write_films(tmp_path / "films", 12))
    films = write_films(tmp_path / "elsewhere", 12)
    table = tmp_path / "elsewhere" / "labels.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *rows[::-1]]) + "\n")
    make(tmp_path / "two", *films)
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert one.pop(MANIFEST_NAME) != two.pop(MANIFEST_NAME)  # it contains the sha256 of the table
    assert one == two


def test_adding_a_split_leaves_the_others_unchanged(tmp_path: Path):
    out = tmp_path / "out"
    assert make(out, *write_films(tmp_path / "a", 10), "--split", "train") == 0
    first = digests(out)
    assert make(out, *write_films(tmp_path / "b", 6, first=10), "--split", "test") == 0
    second = digests(out)
    shards = [name for name in first if name.startswith("train")]
    assert [first[name] for name in shards] == [second[name] for name in shards]
    manifest = read_manifest(out / MANIFEST_NAME)
    assert {name: split.num_samples for name, split in manifest.splits.items()} == {"train": 10, "test": 6}


@pytest.mark.fault("B4")
def test_a_key_that_is_already_in_another_split_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    make(out, *write_films(tmp_path / "a", 10), "--split", "train")
    before = modification_times(out)
    assert make(out, *write_films(tmp_path / "b", 6, first=9), "--split", "test") == 2
    message = capsys.readouterr().err
    assert "sample 'hand-9' would be in two splits, 'train' and 'test'" in message
    assert modification_times(out) == before


@pytest.mark.fault("B4")
def test_a_different_image_format_is_refused_and_both_formats_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    make(out, *write_films(tmp_path / "a", 10), "--split", "train")
    assert make(out, *write_films(tmp_path / "b", 6, first=10), "--split", "test", "--size", "32") == 2
    message = capsys.readouterr().err
    assert "expected: height 16" in message
    assert "got:      height 32" in message


@pytest.mark.fault("B4")
def test_a_set_made_with_different_settings_is_only_replaced_with_replace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, films = tmp_path / "out", write_films(tmp_path / "films", 20)
    make(out, *films)
    before = digests(out)
    for other in (["--seed", "1"], ["--size", "24"], ["--samples-per-shard", "20"], ["--encoding", "jpg"]):
        assert make(out, *films, *other) == 2
        assert "already has a split 'train' that was made from different inputs" in capsys.readouterr().err
        assert digests(out) == before
    assert make(out, *films, "--samples-per-shard", "20", "--replace") == 0
    assert make(tmp_path / "fresh", *films, "--samples-per-shard", "20") == 0
    assert digests(out) == digests(tmp_path / "fresh")


@pytest.mark.fault("B4")
def test_replacing_one_split_keeps_the_other(tmp_path: Path):
    out = tmp_path / "out"
    make(out, *write_films(tmp_path / "a", 10), "--split", "train")
    make(out, *write_films(tmp_path / "b", 20, first=10), "--split", "test")
    make(out, *write_films(tmp_path / "c", 5, first=10), "--split", "test", "--replace")
    manifest = read_manifest(out / MANIFEST_NAME)
    assert {name: split.num_samples for name, split in manifest.splits.items()} == {"train": 10, "test": 5}
    assert not (out / "test-000001.tar").exists()


def test_a_missing_shard_is_reported_and_written_again_with_replace(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, films = tmp_path / "out", write_films(tmp_path / "films", 20)
    make(out, *films)
    before = digests(out)
    (out / "train-000001.tar").unlink()
    assert make(out, *films) == 2
    assert "train-000001.tar: missing" in capsys.readouterr().err
    assert make(out, *films, "--replace") == 0
    assert digests(out) == before


@pytest.mark.parametrize("name", ["train-000001.index.npy", "train-000001.idx"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_set_with_a_missing_or_damaged_sidecar_is_not_complete(
    tmp_path: Path, name: str, exists: bool, capsys: pytest.CaptureFixture[str]
):
    out, films = tmp_path / "out", write_films(tmp_path / "films", 20)
    make(out, *films)
    before = digests(out)
    (out / name).unlink()
    if exists:
        (out / name).write_bytes(b"a part")
    assert make(out, *films) == 2
    message = capsys.readouterr().err
    assert f"{name}: missing, or does not match the manifest" in message
    assert "wds-bone index" in message
    assert make(out, *films, "--replace") == 0
    assert digests(out) == before


def test_the_remedy_for_a_damaged_manifest_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    make(out, *films)
    with (out / MANIFEST_NAME).open("ab") as manifest:
        manifest.write(b" ")
    for command in (lambda: make(out, *films, "--replace"), lambda: index([str(out)])):
        assert command() == 2
        assert f"delete {out / MANIFEST_NAME}, then run `wds-bone index`" in capsys.readouterr().err
    (out / MANIFEST_NAME).unlink()
    assert index([str(out)]) == 0


@pytest.mark.fault("A7")
def test_films_without_a_label_are_counted_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    films = write_films(tmp_path / "films", 12)
    write_films(tmp_path / "films" / "more", 3, first=12)
    assert make(tmp_path / "out", *films) == 0
    assert "files without a label, not used: 3 images; other files: 2 .csv" in capsys.readouterr().out
