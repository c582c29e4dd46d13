"""Find the films to predict, and the gender of each child.

In: what the user names and a gender, or a table of genders and folders of films.
Out: `Inputs`.
Invariant: each film and each row of the table is an input or an error, or is counted in a remark; genders are stated by
the user, the table or, asked for, by the film itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wds_bone.errors import ImageError, LabelError, WdsBoneError
from wds_bone.images.files import ImageFiles, count_by_suffix, find_images
from wds_bone.images.listing import list_films
from wds_bone.images.patient_sex import read_patient_gender
from wds_bone.labels.columns import LabelColumns
from wds_bone.labels.gender_table import GenderRow, read_gender_table
from wds_bone.labels.keys import parse_id
from wds_bone.labels.values import Gender
from wds_bone.sharding.sources import files_of, find_film, missing_films_error

_LIST_FOLDERS = "list all folders after --images, or convert films of other kinds to PNG"


@dataclass(frozen=True, slots=True)
class Input:
    """A film to predict.

    Attributes:
        path: the file.
        key: the id in the table, or the name of the file without its image suffix.
        gender: the gender of the child.
    """

    path: Path
    key: str
    gender: Gender


@dataclass
class Inputs:
    """The films to predict, in the order in which they were named.

    Attributes:
        films: the films.
        errors: one for each film, row or word that cannot be predicted.
        remark: what else was found, in words; "" if there is nothing.
    """

    films: list[Input] = field(default_factory=list)
    errors: list[WdsBoneError] = field(default_factory=list)
    remark: str = ""


def named_inputs(words: Iterable[str], lines: Iterable[str], *, gender: Gender | None) -> Inputs:
    """Return the films that `words` and `lines` mean, as in `list_films`.

    Args:
        words: files, folders, patterns, and `-` for `lines`.
        lines: the lines of standard input.
        gender: the gender of all these children; None reads it from the DICOM header of each film.
    """
    listed = list_films(words, lines)
    found = Inputs(errors=listed.errors)
    if listed.skipped:
        found.remark = f"files in the folders that are not images: {count_by_suffix(sorted(listed.skipped))}"
    for path in listed.films:
        try:
            found.films.append(Input(path, parse_id(path.name), gender or read_patient_gender(path)))
        except WdsBoneError as error:
            found.errors.append(error)
    return found


def table_inputs(table: Path, folders: Sequence[Path], columns: LabelColumns) -> Inputs:
    """Return the films of a table of genders, in its order; films that it does not name are not opened.

    Args:
        table: the table; ages are not read.
        folders: the folders of the films, whose names are the ids.
        columns: the columns of the table, as for `read_gender_table`.

    Raises:
        LabelError: if `read_gender_table` refuses the table.
        ImageError: if `find_images` refuses the folders, or no row has a film.
    """
    rows, files = read_gender_table(table, columns), find_images(folders)
    missing = [row.id for row in rows if not files_of(row.id, files)]
    if len(missing) == len(rows):
        raise missing_films_error(missing, len(rows), table, files, do=_LIST_FOLDERS)
    found, used = Inputs(), {path for path in files.others if path.name == table.name and path.samefile(table)}
    for row in rows:
        try:
            film = _find_input(row, files)
            found.films.append(film)
            used.add(film.path)
        except WdsBoneError as error:
            found.errors.append(error)
            used.update(files_of(row.id, files))
    if not used.issuperset((*files.images, *files.others)):
        found.remark = f"files without a row in {table}: {files.describe(used)}"
    return found


def _find_input(row: GenderRow, files: ImageFiles[Path]) -> Input:
    if isinstance(row.gender, LabelError):
        raise row.gender
    if path := find_film(row.id, files):
        return Input(path, row.id, row.gender)
    raise ImageError(
        f"{row.where}: no film of this name",
        expected=f"an image named {row.id}.png (or .jpg, .tif, .dcm) in the folders of --images",
        got="none",
        do="add the folder of the film to --images, correct the id, or delete the row",
    )
