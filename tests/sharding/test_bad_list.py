import json
from pathlib import Path

import pytest

from tests.sharding.film_sets import keys, make, write_films
from wds_bone.sharding.bad_list import BAD_NAME
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
