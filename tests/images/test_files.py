"""Test `find_images` and the reading of bytes: which files are images, and whether they change meanwhile."""

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
    found = find_images([tmp_path / "a", tmp_path / "b"])
    assert list(found) == sorted(["7", "12", "x_1", "3", "4", "5", "b-1"])
    assert found["x_1"] == tmp_path / "a" / "deep" / "er" / "x_1.jpeg"


def test_hidden_files_and_other_files_are_skipped(tmp_path: Path) -> None:
    write_files(tmp_path, "7.png", ".8.png", ".cache/9.png", "labels.csv", "README", "10.png.txt", "__MACOSX/._7.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "again").symlink_to(tmp_path)
    assert list(find_images([tmp_path])) == ["7"]


def test_a_file_without_suffix_is_an_image_if_it_holds_dicom(tmp_path: Path) -> None:
    write_files(tmp_path, "preamble", contents=dicom_bytes(DEEP_FILM))
    write_files(tmp_path, "headerless", contents=dicom_bytes(DEEP_FILM, headerless=True))
    write_files(tmp_path, "picture", contents=film_bytes("PNG"))
    write_files(tmp_path, "notes", contents=b"\x08\x00 are not DICOM")
    assert list(find_images([tmp_path])) == ["headerless", "preamble"]


@pytest.mark.parametrize(("one", "other"), [("a/7.png", "b/7.png"), ("a/7.png", "a/7.jpg"), ("a/7.png", "a/x/7.PNG")])
def test_the_error_for_two_images_with_the_same_key_names_both(one: str, other: str, tmp_path: Path) -> None:
    write_files(tmp_path, one, other)
    with pytest.raises(ImageError, match="another image has the same key") as caught:
        find_images(sorted(tmp_path.iterdir()))
    assert str(tmp_path / one) in str(caught.value)
    assert str(tmp_path / other) in str(caught.value)


def test_the_error_for_a_missing_folder_names_it(tmp_path: Path) -> None:
    write_files(tmp_path, "7.png")
    for folder in (tmp_path / "absent", tmp_path / "7.png"):
        with pytest.raises(ImageError, match=f"{folder}: cannot be read"):
            find_images([folder])


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"{tmp_path}: no images"):
        find_images([tmp_path])


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
