from pathlib import Path

from benchmarks.film_counts import draw_errors, write_rows


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
