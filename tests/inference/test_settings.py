"""Test the settings of predict: each child has exactly one source of its gender, and contradictions are refused."""

from pathlib import Path

import pytest

from wds_bone.command_line import parse_config
from wds_bone.commands import PREDICT
from wds_bone.errors import ConfigError
from wds_bone.inference.settings import PredictConfig, refuse_unusable_out

IN_TABLE = ["--table", "t.csv", "--images", "d"]


def parse(*words: str) -> PredictConfig:
    return parse_config(PredictConfig, ["--checkpoint", "best.pt", *words], PREDICT)


@pytest.mark.parametrize("text", ["F", "f", "female", "Girl", "女"])
def test_a_gender_is_accepted_as_label_tables_accept_it(text: str) -> None:
    assert parse("--gender", text, "x.png").gender_of_all == "F"


@pytest.mark.fault("E5")
@pytest.mark.parametrize(
    "words", [[], ["--gender", "unknown"], ["--gender", "1"], ["--gender", ""], ["--gender", "true"]]
)
def test_the_gender_is_required_and_never_guessed(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="--gender"):
        parse(*words, "--", "x.png")


@pytest.mark.fault("E5")
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--gender", "F", "--gender-from-dicom", "x.dcm"], "given twice"),
        (["--gender", "F"], "no films to predict"),
        (["--gender-from-dicom"], "no films to predict"),
        ([], "no films to predict"),
        ([*IN_TABLE, "--gender", "F"], "--gender and --table contradict each other"),
        ([*IN_TABLE, "--gender-from-dicom"], "--gender-from-dicom and --table contradict each other"),
        ([*IN_TABLE, "--", "x.png"], "films and --table were given"),
        (["--table", "t.csv"], "--table without --images"),
        (["--gender", "F", "--images", "d", "--", "x.png"], "--images without --table"),
        (["--gender", "F", "--id-width", "5", "--", "x.png"], "--id-width without --table"),
        ([*IN_TABLE, "--delimiter", "x"], "--delimiter: unknown choice"),
        ([*IN_TABLE, "--gender-words", "H"], "--gender-words"),
        ([*IN_TABLE, "--threads", "0"], "--threads 0 is out of range"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(words: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse(*words)


def test_several_checkpoints_can_follow_one_option_or_one_each() -> None:
    for words in (["--checkpoint", "b.pt", "c.pt"], ["--checkpoint", "b.pt", "--checkpoint", "c.pt"]):
        assert parse(*words, *IN_TABLE).checkpoint == (Path("best.pt"), Path("b.pt"), Path("c.pt"))


def test_films_that_were_taken_for_checkpoints_are_explained() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no films to predict.*before --checkpoint, or after --$"):
        parse_config(PredictConfig, ["--checkpoint", "best.pt", "film.png"], PREDICT)


def test_the_suffix_of_the_file_decides_the_format() -> None:
    assert [parse(*IN_TABLE, "--out", name).row_format for name in ("x.csv", "x.CSV", "x.jsonl")] == [
        "csv",
        "csv",
        "jsonl",
    ]
    assert parse(*IN_TABLE).row_format == "csv"


@pytest.mark.fault("B7", "E5")
def test_a_file_that_is_read_or_cannot_be_written_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)--out x.txt is not valid.*\.csv or \.jsonl"):
        refuse_unusable_out(parse(*IN_TABLE, "--out", "x.txt"))
    table, folder = tmp_path / "t.csv", tmp_path / "folder.csv"
    table.touch()
    folder.mkdir()
    (tmp_path / "link.csv").symlink_to(table)
    for out in (table, tmp_path / "link.csv"):
        with pytest.raises(ConfigError, match="is also read"):
            refuse_unusable_out(parse("--table", str(table), "--images", "d", "--out", str(out)))
    with pytest.raises(ConfigError, match="is not a file"):
        refuse_unusable_out(parse(*IN_TABLE, "--out", str(folder)))
    with pytest.raises(ConfigError, match="is not a folder"):
        refuse_unusable_out(parse(*IN_TABLE, "--out", str(table / "x.csv")))
