"""Test `bad.jsonl` and `keys.csv`, which list samples: as deterministic and as atomic as the rest of the set."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.sample_sets import age_of, image_of
from tests.sharding.film_sets import digests, keys, make, write_films
from wds_bone.sharding.lists import BAD_NAME, KEYS_NAME
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest


def corrupt(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / f"hand-{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")


def test_bad_samples_stop_the_run_unless_they_may_be_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    corrupt(tmp_path / "films", 3, 4)
    (tmp_path / "films" / "hand-5.png").unlink()
    assert make(out, *films) == 2
    assert "no image found for 1 of 20 labels; the first is 'hand-5'" in capsys.readouterr().err
    assert make(out, *films, "--on-bad", "skip", "--max-bad", "2") == 2
    message = capsys.readouterr().err
    assert "too many bad samples" in message
    assert "expected: at most 2" in message
    assert make(out, *films, "--on-bad", "skip", "--max-bad", "3") == 0
    assert f"skipped samples, listed in {out / BAD_NAME}: bad image: 2, no image: 1" in capsys.readouterr().out
    bad = [json.loads(line) for line in (out / BAD_NAME).read_text().splitlines()]
    assert {line["key"]: line["cause"] for line in bad} == {
        "hand-3": "bad image",
        "hand-4": "bad image",
        "hand-5": "no image",
    }
    assert str(tmp_path) not in (out / BAD_NAME).read_text()
    assert not {"hand-3", "hand-4", "hand-5"} & (keys(out, "train") | keys(out, "val"))
    assert sum(split.num_samples for split in read_manifest(out / MANIFEST_NAME).splits.values()) == 17


def test_a_complete_set_still_reports_bad_samples_and_enforces_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    corrupt(tmp_path / "films", 3, 4)
    (tmp_path / "films" / "hand-5.png").unlink()
    make(out, *films, "--on-bad", "skip", "--max-bad", "3")
    capsys.readouterr()
    assert make(out, *films, "--on-bad", "skip", "--max-bad", "3") == 0
    text = capsys.readouterr().out
    assert "already complete" in text
    assert f"skipped samples, listed in {out / BAD_NAME}: bad image: 2, no image: 1" in text
    assert make(out, *films, "--on-bad", "skip", "--max-bad", "2") == 2
    assert "too many bad samples" in capsys.readouterr().err


@pytest.mark.parametrize("contents", ["{", "[]", '{"key": "hand-3"}', "\xff"])
def test_a_damaged_list_of_bad_samples_is_reported_with_a_remedy_that_works(
    tmp_path: Path, contents: str, capsys: pytest.CaptureFixture[str]
):
    films, out = write_films(tmp_path / "films", 10), tmp_path / "out"
    make(out, *films)
    (out / BAD_NAME).write_text(contents, "latin-1")
    assert make(out, *films) == 2
    message = capsys.readouterr().err
    assert f"{BAD_NAME}: is damaged" in message
    assert "delete this file" in message
    (out / BAD_NAME).unlink()
    assert make(out, *films) == 0


def test_bad_samples_are_listed_until_their_split_is_replaced(tmp_path: Path):
    films, out = write_films(tmp_path / "films", 10), tmp_path / "out"
    corrupt(tmp_path / "films", 3)
    make(out, *films, "--split", "train", "--on-bad", "skip", "--max-bad", "3")
    make(out, *write_films(tmp_path / "b", 6, first=10), "--split", "test")
    (line,) = (json.loads(line) for line in (out / BAD_NAME).read_text().splitlines())
    assert (line["key"], line["splits"]) == ("hand-3", ["train"])
    make(out, *write_films(tmp_path / "films", 10), "--split", "train", "--replace")
    assert not (out / BAD_NAME).exists()


def test_a_shard_with_only_bad_samples_is_left_out_and_such_a_split_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    films, out = write_films(tmp_path / "films", 4), tmp_path / "out"
    settings = ("--split", "train", "--samples-per-shard", "1", "--on-bad", "skip", "--max-bad", "9")
    corrupt(tmp_path / "films", 1)
    assert make(out, *films, *settings) == 0
    assert len(list(out.glob("*.tar"))) == 3
    corrupt(tmp_path / "films", 0, 2, 3)
    assert make(tmp_path / "none", *films, *settings) == 2
    assert "split 'train': all samples are bad" in capsys.readouterr().err


def write_patients(folder: Path, numbers: range) -> list[str]:
    """Write films named `p 7.left.png`, and return the arguments that select them."""
    folder.mkdir(exist_ok=True)
    rows = ["id,boneage,male"]
    for number in numbers:
        Image.fromarray(image_of(number, 16)).save(folder / f"p {number}.left.png")
        rows.append(f"p {number}.left,{age_of(number)},{number % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return ["--labels", str(folder / "labels.csv"), "--images", str(folder), "--safe-keys"]


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / KEYS_NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def ids_of(out: Path, split: str) -> set[str]:
    return {row["id"] for row in rows_of(out) if row["split"] == split}


def test_keys_csv_maps_every_key_of_the_set_to_its_id(tmp_path: Path):
    assert make(tmp_path / "out", *write_patients(tmp_path / "films", range(20))) == 0
    rows = rows_of(tmp_path / "out")
    assert {row["id"] for row in rows} == {f"p {number}.left" for number in range(20)}
    for split in ("train", "val"):
        assert {row["key"] for row in rows if row["split"] == split} == keys(tmp_path / "out", split)


def test_without_safe_keys_such_ids_are_refused_and_the_option_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert make(tmp_path / "out", *write_patients(tmp_path / "films", range(4))[:-1]) == 2
    assert "--safe-keys" in capsys.readouterr().err


def test_the_list_does_not_depend_on_the_order_of_the_table_or_the_folder(tmp_path: Path):
    make(tmp_path / "one", *write_patients(tmp_path / "films", range(12)))
    arguments = write_patients(tmp_path / "moved", range(12))
    header, *rows = (tmp_path / "moved" / "labels.csv").read_text().splitlines()
    (tmp_path / "moved" / "labels.csv").write_text("\n".join([header, *rows[::-1]]))
    make(tmp_path / "two", *arguments)
    assert digests(tmp_path / "one")[KEYS_NAME] == digests(tmp_path / "two")[KEYS_NAME]


def test_each_split_has_its_rows_and_they_are_replaced_with_it(tmp_path: Path):
    out = tmp_path / "out"
    make(out, *write_patients(tmp_path / "a", range(10)), "--split", "train")
    make(out, *write_patients(tmp_path / "b", range(10, 16)), "--split", "test")
    assert [len(ids_of(out, split)) for split in ("train", "test")] == [10, 6]
    make(out, *write_patients(tmp_path / "c", range(20, 23)), "--split", "test", "--replace")
    assert ids_of(out, "test") == {"p 20.left", "p 21.left", "p 22.left"}
    assert len(ids_of(out, "train")) == 10


def test_a_set_that_is_replaced_by_one_without_safe_keys_has_no_list(tmp_path: Path):
    out, films = tmp_path / "out", tmp_path / "films"
    make(out, *write_patients(films, range(6)), "--split", "train")
    for number in range(6):
        (films / f"p {number}.left.png").rename(films / f"p{number}.png")
    table = films / "labels.csv"
    table.write_text(table.read_text().replace("p ", "p").replace(".left", ""))
    assert make(out, "--labels", str(table), "--images", str(films), "--split", "train", "--replace") == 0
    assert not (out / KEYS_NAME).exists()


def test_films_that_were_left_out_are_not_listed(tmp_path: Path):
    arguments = write_patients(tmp_path / "films", range(8))
    (tmp_path / "films" / "p 3.left.png").write_bytes(b"damaged")
    assert make(tmp_path / "out", *arguments, "--on-bad", "skip", "--max-bad", "1") == 0
    assert {row["id"] for row in rows_of(tmp_path / "out")} == {f"p {n}.left" for n in range(8) if n != 3}


def test_a_list_that_was_lost_is_written_again_and_a_complete_one_is_left_alone(tmp_path: Path):
    out, arguments = tmp_path / "out", write_patients(tmp_path / "films", range(8))
    make(out, *arguments)
    before, modified = digests(out), (out / KEYS_NAME).stat().st_mtime_ns
    make(out, *arguments)
    assert (out / KEYS_NAME).stat().st_mtime_ns == modified
    (out / KEYS_NAME).unlink()
    assert make(out, *arguments) == 0
    assert digests(out) == before


def test_a_damaged_list_is_refused_with_a_remedy_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, arguments = tmp_path / "out", write_patients(tmp_path / "films", range(8))
    make(out, *arguments)
    before = digests(out)
    (out / KEYS_NAME).write_text("key,id\n")
    assert make(out, *arguments) == 2
    assert "delete this file" in capsys.readouterr().err
    (out / KEYS_NAME).unlink()
    assert make(out, *arguments, "--replace") == 0
    assert digests(out) == before
