"""Test `find_images` and the reading of bytes: which files are images, and whether they change meanwhile."""

import os
import threading
from pathlib import Path

import pytest

from tests.images.broken_inputs import DEEP_FILM, film_bytes
from tests.images.dicom_films import dicom_bytes
from wds_bone.errors import ImageError
from wds_bone.images.read import find_images, read_image


def write_files(folder: Path, *names: str, contents: bytes = b"") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents)


def test_images_are_found_by_suffix_in_nested_folders(tmp_path: Path) -> None:
    write_files(tmp_path / "a", "7.png", "12.JPG", "deep/er/x_1.jpeg", "3.tif", "4.TIFF", "5.dcm")
    write_files(tmp_path / "b", "b-1.Png")
    files = find_images([tmp_path / "a", tmp_path / "b"])
    assert sorted(path.stem for path in files.images) == sorted(["7", "12", "x_1", "3", "4", "5", "b-1"])
    assert files.find("x_1") == tmp_path / "a" / "deep" / "er" / "x_1.jpeg"
    assert files.find("x_1", ["deep", "er"]) == files.find("x_1", ["er"]) == files.find("x_1")
    assert files.find("x_1", ["deep"]) is None
    assert files.find("x") is None


def test_hidden_files_and_other_files_are_skipped(tmp_path: Path) -> None:
    write_files(tmp_path, "7.png", ".8.png", ".cache/9.png", "labels.csv", "README", "10.png.txt", "__MACOSX/._7.png")
    files = find_images([tmp_path])
    assert files.images == (tmp_path / "7.png",)
    assert [files.find(name) for name in ("8", ".8", "9", "labels", "README", "10.png", "10")] == [None] * 7
    assert files.describe(files.images) == "0 images; other files: 1 .txt, 1 without suffix, 1 .csv"


@pytest.mark.fault("A7")
def test_links_to_folders_are_followed_and_each_folder_is_searched_once(tmp_path: Path) -> None:
    write_files(tmp_path, "far/7.png", "films/sub/8.png")
    (tmp_path / "films" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "films" / "sub" / "again").symlink_to(tmp_path / "films")
    (tmp_path / "films" / "same").symlink_to(tmp_path / "far")
    (tmp_path / "films" / "itself").symlink_to("itself")
    files = find_images([tmp_path / "films", tmp_path / "far"])
    assert sorted(path.name for path in files.images) == ["7.png", "8.png"]


def test_the_contents_of_other_files_decide_whether_they_are_images(tmp_path: Path) -> None:
    write_files(tmp_path, "preamble", "a.dicom", "b.IMA", "1.2.840.113", contents=dicom_bytes(DEEP_FILM))
    write_files(tmp_path, "headerless", contents=dicom_bytes(DEEP_FILM, headerless=True))
    write_files(tmp_path, "picture", "c.img", contents=film_bytes("PNG"))
    write_files(tmp_path, "notes", "picture.txt", contents=b"\x08\x00 are not DICOM")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "a.pipe")
    files = find_images([tmp_path])
    found = ["preamble", "a", "b", "1.2.840.113", "headerless", "picture", "c"]
    assert all(files.find(name) is not None for name in found)
    assert [files.find(name) for name in ("notes", "pipe")] == [None, None]


@pytest.mark.parametrize(("one", "other"), [("a/7.png", "b/7.png"), ("a/7.png", "a/7.jpg"), ("a/7.png", "a/x/7.PNG")])
def test_the_error_for_two_images_with_the_same_key_names_both(one: str, other: str, tmp_path: Path) -> None:
    write_files(tmp_path, one, other)
    files = find_images(sorted(tmp_path.iterdir()))
    with pytest.raises(ImageError, match="another image has the same key") as caught:
        files.find("7")
    assert str(tmp_path / one) in str(caught.value)
    assert str(tmp_path / other) in str(caught.value)


def test_a_link_to_the_same_image_is_no_second_image(tmp_path: Path) -> None:
    write_files(tmp_path, "a/7.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "7.png").symlink_to(tmp_path / "a" / "7.png")
    found = find_images([tmp_path]).find("7")
    assert found is not None
    assert found.samefile(tmp_path / "a" / "7.png")


def test_the_error_for_a_missing_folder_names_it(tmp_path: Path) -> None:
    write_files(tmp_path, "7.png")
    with pytest.raises(ImageError, match=f"{tmp_path / 'absent'}: cannot be read"):
        find_images([tmp_path / "absent"])


def test_a_film_in_place_of_its_folder_is_refused_with_the_folder(tmp_path: Path) -> None:
    write_files(tmp_path, "7.png")
    with pytest.raises(ImageError, match=f"(?s)7.png: cannot be read as a folder.*use its folder, {tmp_path}$"):
        find_images([tmp_path / "7.png"])


@pytest.mark.fault("H1")
def test_a_folder_that_cannot_be_read_costs_only_itself_if_asked_for(tmp_path: Path) -> None:
    write_files(tmp_path, "7.png")
    unreadable: list[ImageError] = []
    assert find_images([tmp_path / "absent", tmp_path], unreadable=unreadable).images == (tmp_path / "7.png",)
    assert find_images([tmp_path / "absent"], unreadable=unreadable).images == ()
    assert [str(error.problem) for error in unreadable] == 2 * [f"{tmp_path / 'absent'}: cannot be read"]


def test_all_images_are_listed_by_suffix_or_contents_without_the_directory_of_a_medium(tmp_path: Path) -> None:
    write_files(tmp_path, "b.png", "notes.txt")
    write_files(tmp_path, "a/IM1", "DICOMDIR", contents=dicom_bytes(DEEP_FILM))
    assert find_images([tmp_path]).list_all() == [tmp_path / "a" / "IM1", tmp_path / "b.png"]


def test_folders_without_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"{tmp_path}: no images"):
        find_images([tmp_path])


@pytest.mark.parametrize(
    ("name", "reason"), [("a\0b", "null"), ("x" * 300, "File name too long"), ("\udcff", "No such")]
)
@pytest.mark.fault("A8", "H1")
def test_an_impossible_name_is_an_image_error(name: str, reason: str, tmp_path: Path) -> None:
    for read in (read_image, lambda path: find_images([path])):
        with pytest.raises(ImageError, match=f"cannot be read\n(.*\n)?.*{reason}"):
            read(tmp_path / name)


@pytest.mark.parametrize("kind", ["FIFO", "folder", "device or socket"])
@pytest.mark.fault("A8", "H1")
def test_anything_but_a_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/null") if kind == "device or socket" else tmp_path / "film.png"
    if kind == "FIFO":
        os.mkfifo(path)
    if kind == "folder":
        path.mkdir()
    with pytest.raises(ImageError, match=f"{path}: a {kind} instead of a film"):
        read_image(path)


@pytest.mark.fault("A8")
def test_a_file_above_the_limit_is_refused_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "film.png").open("wb") as file:
        file.write(film_bytes("PNG"))
        file.truncate(2**40)
    with pytest.raises(ImageError, match="the file is too large"):
        read_image(tmp_path / "film.png")


@pytest.mark.fault("A10")
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(film_bytes("PNG") + bytes(8_000_000))
    stopped = threading.Event()

    def keep_writing() -> None:
        with path.open("ab", buffering=0) as file:
            while not stopped.is_set():
                file.write(bytes(100))

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        assert any(_problem(path) == f"{path}: the file changed while it was being read" for _ in range(50))
    finally:
        stopped.set()
        writer.join(timeout=10)


def _problem(path: Path) -> str:
    try:
        read_image(path)
    except ImageError as error:
        return error.problem
    return "none"
