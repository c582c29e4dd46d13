"""Test `wds-bone make-shards --patient-column`: the films of a patient stay together, and nobody learns who it is."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.sharding.film_sets import digests, keys, make, names_in, write_films
from tests.sharding.test_staging import interrupt
from wds_bone.index import main as index
from wds_bone.shards.groups import read_groups
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME, read_manifest
from wds_bone.shards.sidecars import read_sidecar
from wds_bone.verify import main as verify

USED = ("--patient-column", "patient_ID")
Captured = pytest.CaptureFixture[str]


def patient_of(number: int) -> str:
    return f"Dolores-{number // 3}"


def write_patients(
    folder: Path, num_films: int, *, first: int = 0, of: Callable[[int], str] = patient_of, column: str = "patient_ID"
) -> list[str]:
    """Write films whose label table has a column of patients, and return the arguments that select them."""
    films = write_films(folder, num_films, first=first)
    header, *rows = (folder / "labels.csv").read_text().splitlines()
    numbered = [f"{row},{of(first + number)}" for number, row in enumerate(rows)]
    (folder / "labels.csv").write_text("\n".join([f"{header},{column}", *numbered]) + "\n")
    return films


def groups(out: Path, *splits: str) -> dict[str, int]:
    """Return the group of each key of the splits, or of all splits."""
    manifest = read_manifest(out / MANIFEST_NAME)
    return dict(pair for split in splits or manifest.splits for pair in _groups_of(out, manifest.splits[split].shards))


def _groups_of(out: Path, shards: tuple) -> Iterator[tuple[str, int]]:
    for shard in shards:
        names = [key.decode() for key in read_sidecar(out, shard)["key"].tolist()]
        yield from zip(names, read_groups(out, shard).tolist(), strict=True)


def test_the_films_of_a_patient_are_in_one_split_and_have_one_group(tmp_path: Path, capsys: Captured):
    out = tmp_path / "out"
    assert make(out, *write_patients(tmp_path / "films", 30), *USED, "--val-fraction", "0.3") == 0
    train, val = ({key.split("-")[1] for key in keys(out, split)} for split in ("train", "val"))
    patients = [{patient_of(int(number)) for number in part} for part in (train, val)]
    assert (len(train), len(val)) == (21, 9)
    assert not patients[0] & patients[1]
    numbers = {key: (group, patient_of(int(key.split("-")[1]))) for key, group in groups(out).items()}
    assert len(numbers) == 30
    assert len(set(numbers.values())) == len({group for group, _ in numbers.values()}) == 10
    assert verify([str(out), "--deep"]) == 0
    text = capsys.readouterr().out
    assert text.count("; films are grouped by patient") == 2
    assert "patients: 10, with up to 3 films; the films of each stay together" in text
    assert "patients with films of both genders: 10; the first of them has the films 'hand-" in text
    assert "looks like" not in text


@pytest.mark.fault("I2")
def test_no_file_and_no_output_contains_the_id_of_a_patient_or_a_number_that_depends_on_it(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    films, out = write_patients(tmp_path / "films", 30), tmp_path / "out"
    (tmp_path / "films" / "hand-4.png").write_bytes(b"damaged")
    skip = ("--on-bad", "skip", "--max-bad", "5")
    interrupt(out, films, monkeypatch, "train-000001.tar", *USED, *skip)
    contents = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert make(out, *films, *USED, *skip) == 0
    contents += [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    printed = capsys.readouterr()
    assert b"Dolores" not in b"".join(contents)
    assert "Dolores" not in printed.out + printed.err
    renamed = write_patients(tmp_path / "renamed", 30, of=lambda number: f"Zoe-{99 - number // 3}")
    (tmp_path / "renamed" / "hand-4.png").write_bytes(b"damaged")
    assert make(tmp_path / "other", *renamed, *USED, *skip) == 0
    first, second = digests(out), digests(tmp_path / "other")
    assert first.pop(MANIFEST_NAME) != second.pop(MANIFEST_NAME)  # it contains the sha256 of the table
    assert first == second


def test_group_numbers_count_patients_in_the_shuffled_order(tmp_path: Path):
    assert make(tmp_path / "out", *write_patients(tmp_path / "films", 30), *USED, "--val-fraction", "0.3") == 0
    numbers = list(groups(tmp_path / "out", "train", "val").values())
    assert list(dict.fromkeys(numbers)) == list(range(10))


@pytest.mark.fault("B6")
def test_the_set_does_not_depend_on_the_order_of_the_table_and_groups_fit_after_films_were_skipped(tmp_path: Path):
    films = write_patients(tmp_path / "films", 30)
    (tmp_path / "films" / "hand-5.png").write_bytes(b"damaged")
    arguments = (*films, *USED, "--on-bad", "skip", "--max-bad", "1")
    assert make(tmp_path / "one", *arguments) == 0
    table = tmp_path / "films" / "labels.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *rows[::-1]]) + "\n")
    assert make(tmp_path / "two", *arguments) == 0
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert one.pop(MANIFEST_NAME) != two.pop(MANIFEST_NAME)
    assert one == two
    by_patient = {patient_of(int(key.split("-")[1])): group for key, group in groups(tmp_path / "one").items()}
    assert len(set(by_patient.values())) == 10


def test_without_the_option_the_set_has_the_bytes_of_a_table_without_patients(tmp_path: Path, capsys: Captured):
    make(tmp_path / "plain", *write_films(tmp_path / "a", 20))
    assert "patient" not in capsys.readouterr().out
    make(tmp_path / "unused", *write_patients(tmp_path / "b", 20))
    plain, unused = digests(tmp_path / "plain"), digests(tmp_path / "unused")
    assert plain.pop(MANIFEST_NAME) != unused.pop(MANIFEST_NAME)
    assert plain == unused
    manifests = [json.loads((tmp_path / name / MANIFEST_NAME).read_text()) for name in ("plain", "unused")]
    assert manifests[0].keys() == manifests[1].keys() == {"format", "version", "image", "splits", "sha256"}


@pytest.mark.parametrize(
    ("more", "of", "mention"),
    [
        (["--val-fraction", "0.5"], lambda number: "all", "1 patient has films in train and in val"),
        (["--val-fraction", "0.5"], lambda number: f"p{number % 10}", "patients have films in train and in val"),
        (["--split", "train"], lambda number: f"p{number % 10}", "10 patients have several films"),
    ],
)
def test_a_column_of_patients_that_is_not_used_is_mentioned_once(
    tmp_path: Path, more: list[str], of: Callable[[int], str], mention: str, capsys: Captured
):
    films = write_patients(tmp_path / "films", 20, of=of, column="Subject No.")
    assert make(tmp_path / "out", *films, *more) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in printed.out.splitlines() if "looks like a patient" in line]
    assert line.startswith("column 'Subject No.' looks like a patient: ")
    assert mention in line
    assert line.endswith("; use --patient-column 'Subject No.'")


def test_a_column_with_a_different_patient_for_every_film_needs_no_option(tmp_path: Path, capsys: Captured):
    assert make(tmp_path / "out", *write_patients(tmp_path / "films", 20, of=str)) == 0
    assert "column 'patient_ID' looks like a patient: each has one film\n" in capsys.readouterr().out


@pytest.mark.fault("E4")
def test_too_few_patients_for_two_splits_is_an_error_with_their_number(tmp_path: Path, capsys: Captured):
    assert make(tmp_path / "out", *write_patients(tmp_path / "films", 20, of=lambda number: "one"), *USED) == 2
    message = capsys.readouterr().err
    assert "split 'val' would be empty" in message
    assert "20 samples, patients: 1, --val-fraction 0.1" in message


@pytest.mark.fault("B4")
def test_a_repeated_run_writes_nothing_and_another_use_of_patients_is_a_different_setting(
    tmp_path: Path, capsys: Captured
):
    out, films = tmp_path / "out", write_patients(tmp_path / "films", 20)
    assert make(out, *films, *USED) == 0
    before = digests(out)
    assert make(out, *films, *USED) == 0
    assert "already complete" in capsys.readouterr().out
    assert make(out, *films) == 2
    message = capsys.readouterr().err
    assert "patient_groups true\n" in message
    assert "patient_groups false\n" in message
    assert digests(out) == before


@pytest.mark.fault("B4")
def test_replacing_a_set_by_one_without_patients_leaves_no_groups_and_back(tmp_path: Path):
    out, films = tmp_path / "out", write_patients(tmp_path / "films", 20)
    assert make(out, *films, *USED) == 0
    before = digests(out)
    assert make(out, *films, "--replace") == 0
    assert not [name for name in names_in(out) if "groups" in name]
    assert make(out, *films, *USED, "--replace") == 0
    assert digests(out) == before


@pytest.mark.fault("B1")
@pytest.mark.parametrize("name", ["train-000001.groups.npy", "bad.jsonl"])
def test_an_interrupted_run_continues_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    films, out = write_patients(tmp_path / "films", 20), tmp_path / "out"
    (tmp_path / "films" / "hand-5.png").write_bytes(b"damaged")
    arguments = (*USED, "--on-bad", "skip", "--max-bad", "1")
    interrupt(out, films, monkeypatch, name, *arguments)
    assert make(out, *films, *arguments) == 0
    make(tmp_path / "fresh", *films, *arguments)
    assert digests(out) == digests(tmp_path / "fresh")


@pytest.mark.fault("B4")
def test_an_unfinished_run_without_patients_is_not_continued_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
):
    films, out = write_patients(tmp_path / "films", 20), tmp_path / "out"
    interrupt(out, films, monkeypatch, "train-000001.tar", *USED)
    assert make(out, *films) == 2
    message = capsys.readouterr().err
    assert "unfinished run" in message
    assert "expected: patient_groups true" in message


def test_an_unfinished_run_of_a_version_without_patients_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    films, out = write_films(tmp_path / "films", 20), tmp_path / "out"
    interrupt(out, films, monkeypatch, "train-000001.tar")
    path = out / STAGING_NAME / "plan.json"
    plan = json.loads(path.read_text())
    assert plan.pop("patient_groups") is False
    path.write_text(json.dumps(plan))
    assert make(out, *films) == 0


def test_a_split_that_is_added_has_other_numbers_and_the_limit_of_the_comparison_is_stated(
    tmp_path: Path, capsys: Captured
):
    out = tmp_path / "out"
    assert make(out, *write_patients(tmp_path / "a", 10), *USED, "--split", "train") == 0
    assert "not compared" not in capsys.readouterr().out
    second = (*write_patients(tmp_path / "b", 6, first=10), *USED, "--split", "test")
    assert make(out, *second) == 0
    assert "patients were not compared with those in train, because" in capsys.readouterr().out
    train, test = (set(groups(out, split).values()) for split in ("train", "test"))
    assert (train, test) == ({0, 1, 2, 3}, {4, 5, 6})
    before = digests(out)
    assert make(out, *second) == 0
    assert make(out, *second, "--replace") == 0
    assert digests(out) == before
    assert verify([str(out)]) == 0


@pytest.mark.fault("D7")
def test_missing_or_damaged_groups_are_found_by_verify_and_by_a_repeated_run(tmp_path: Path, capsys: Captured):
    out, films = tmp_path / "out", write_patients(tmp_path / "films", 20)
    make(out, *films, *USED)
    before = digests(out)
    path = out / "train-000001.groups.npy"
    contents = path.read_bytes()
    path.write_bytes(contents[:-1] + b"x")
    capsys.readouterr()
    assert verify([str(out)]) == 1
    assert "train-000001.groups.npy: is damaged" in capsys.readouterr().out
    path.unlink()
    assert verify([str(out)]) == 1
    assert "train-000001.groups.npy: cannot be read" in capsys.readouterr().out
    assert make(out, *films, *USED) == 2
    message = capsys.readouterr().err
    assert "train-000001.groups.npy: missing, or does not match the manifest" in message
    assert "do:       fetch the files again, or write the split again with --replace" in message
    assert make(out, *films, *USED, "--replace") == 0
    assert digests(out) == before


def test_index_keeps_groups_with_and_without_a_manifest_and_refuses_damaged_ones(tmp_path: Path, capsys: Captured):
    out = tmp_path / "out"
    make(out, *write_patients(tmp_path / "films", 20), *USED)
    before, known = digests(out), groups(out)
    (out / "train-000000.index.npy").unlink()
    assert index([str(out)]) == 0
    assert digests(out) == before
    (out / MANIFEST_NAME).unlink()
    assert index([str(out)]) == 0
    assert groups(out) == known
    assert verify([str(out)]) == 0
    np.save(out / "train-000000.groups.npy", np.zeros(3))
    capsys.readouterr()
    assert index([str(out)]) == 2
    assert "train-000000.groups.npy: not the patient groups of its shard" in capsys.readouterr().err
    (out / "train-000000.groups.npy").unlink()
    assert index([str(out)]) == 0
    assert verify([str(out)]) == 0
