from pathlib import Path

import pytest

from benchmarks.film_counts import draw_errors, format_options, write_rows
from tests.sharding.film_sets import write_films
from wds_bone.make_shards import main as make_shards
from wds_bone.shards.manifest import ImageFormat, read_manifest


def test_the_table_of_a_part_has_the_header_and_the_rows_of_its_films(tmp_path: Path):
    table, part = tmp_path / "all.csv", tmp_path / "part.csv"
    table.write_text("id,boneage,male\n1377,180,False\n1378,12,False\n1379,94,True\n", encoding="utf-8")
    write_rows(table, {"1379", "1377", "7"}, part)
    assert part.read_text(encoding="utf-8").splitlines() == ["id,boneage,male", "1377,180,False", "1379,94,True"]


def test_the_figure_shows_each_number_of_films_with_its_error():
    rows = [
        {"num_films": count, "mae_months": error, "mae_interval_months": (error - 1.0, error + 1.0)}
        for count, error in ((250, 30.04), (11_350, 14.0))
    ]
    (axes,) = draw_errors(rows).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["250", "11,350"]
    assert {"30.0", "14.0"} <= {text.get_text() for text in axes.texts}


@pytest.mark.parametrize("options", [["--quality", "80"], ["--encoding", "png", "--stretch", "1.0", "99.0"]])
def test_the_parts_of_a_set_are_written_in_its_format(options: list[str], tmp_path: Path):
    films = [*write_films(tmp_path / "films", 4), "--split", "train"]

    def written(name: str, *options: str) -> ImageFormat:
        assert make_shards([*films, "--out", str(tmp_path / name), *options]) == 0
        return read_manifest(tmp_path / name / "manifest.json").image

    whole = written("whole", "--size", "48", *options)
    assert written("part", *format_options(whole)) == whole


@pytest.mark.parametrize("whole", [ImageFormat("png", 40, 48, fit="letterbox"), ImageFormat("png", 48, 48)])
def test_a_set_in_a_format_that_make_shards_does_not_write_is_refused(whole: ImageFormat):
    with pytest.raises(SystemExit, match="parts of a set of"):
        format_options(whole)
