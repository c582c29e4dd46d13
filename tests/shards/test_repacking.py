"""The tars of other tools are read, and the commands in the errors about the rest work when they are copied."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shards.tars import LABEL, image, tar_of
from wds_bone.errors import ShardError
from wds_bone.shards.scan import scan_shard

TAR = shutil.which("tar")
IS_GNU = TAR is not None and "GNU tar" in subprocess.run([TAR, "--version"], capture_output=True, text=True).stdout
pytestmark = pytest.mark.skipif(not IS_GNU, reason="needs GNU tar")
KEYS = ["hand-0", "hand-1", "hand-2"]


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "films"
    folder.mkdir()
    for key in KEYS:
        (folder / f"{key}.png").write_bytes(image(8, "png"))
        (folder / f"{key}.json").write_bytes(LABEL)
        (folder / f"{key}.txt").write_text("a note")
    return folder


def run(command: str) -> None:
    subprocess.run(command, shell=True, check=True, timeout=60, capture_output=True)


def keys_of(path: str) -> list[str]:
    return [key.decode().removeprefix("films/") for key in scan_shard(Path(path)).table["key"].tolist()]


@pytest.mark.parametrize(
    "options",
    [
        "films",
        "-C films .",
        "--format=ustar films",
        "--format=ustar -C films .",
        "--format=gnu films",
        "--format=oldgnu films",
        "--format=pax films",
        "--format=gnu --owner=someone:3000000000 --group=some:4000000000 films",
        "--format=pax --owner=someone:3000000000 --mtime=1960-01-01 films",
        "--format=ustar --owner=someone:2097151 films",
    ],
)
def test_a_sorted_tar_of_a_folder_is_a_shard(films: Path, options: str):
    run(f"tar --sort=name -cf x.tar {options}")
    assert keys_of("x.tar") == KEYS
    assert scan_shard(Path("x.tar")).ignored == {".txt": 3}


def follow(path: str) -> None:
    """Copy the command from the error about `path`, and run it."""
    with pytest.raises(ShardError) as refused:
        scan_shard(Path(path))
    (command,) = re.findall("`([^`]*)`", refused.value.do)
    run(command)


LONG = "a" * 60 + "/" + "b" * 60


@pytest.mark.fault("D3", "D4")
@pytest.mark.parametrize(
    ("prepare", "options"),
    [
        ("ln -s hand-0.txt films/link.txt", ""),
        ("ln films/hand-0.txt films/link.txt", ""),
        (f"mkdir -p films/{LONG} && mv films/hand-0.txt films/{LONG}", ""),
        ("truncate -s 1M films/hole.bin", "-S"),
        ("truncate -s 1M films/hole.bin", "-S --format=pax"),
        ("mkfifo films/pipe.txt", ""),
        ("true", "-V label"),
        ("true", "--format=v7"),
        ("true", "--format=pax --pax-option=comment=hi"),
        ("true", "-g snapshot"),
    ],
)
def test_the_advice_about_a_tar_that_is_refused_makes_it_a_shard(films: Path, prepare: str, options: str):
    run(prepare)
    run(f"tar --sort=name {options} -cf 'the x.tar' films")
    follow("the x.tar")
    assert keys_of("the x-plain.tar") == KEYS


def test_the_advice_about_members_that_are_not_neighbors_sorts_them(films: Path):
    run("tar -cf x.tar films/*.json films/*.png")
    follow("x.tar")
    assert keys_of("x-plain.tar") == KEYS


@pytest.mark.fault("D3", "C9")
@pytest.mark.parametrize("program", ["gzip", "bzip2", "xz", "zstd"])
def test_a_compressed_tar_is_named_and_its_advice_decompresses_it(films: Path, program: str):
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    run(f"tar --sort=name --use-compress-program={program} -cf x.tar.z films")
    with pytest.raises(ShardError, match=rf"got:      (\d+ bytes of )?{program} data"):
        scan_shard(Path("x.tar.z"))
    follow("x.tar.z")
    assert keys_of("x-plain.tar") == KEYS


def test_a_zip_file_is_named_and_its_advice_repacks_it(films: Path):
    if shutil.which("unzip") is None:
        pytest.skip("needs unzip")
    shutil.make_archive("x", "zip", films)
    Path("x.zip").rename("x.tar")
    with pytest.raises(ShardError, match="zip data"):
        scan_shard(Path("x.tar"))
    follow("x.tar")
    assert keys_of("x-plain.tar") == KEYS


@pytest.mark.parametrize("name", ["2026-01-02T03:04.tar", "-x.tar"])
def test_the_advice_works_for_a_name_that_tar_could_take_for_a_host_or_an_option(films: Path, name: str):
    run(f"ln -s hand-0.txt films/link.txt && tar --sort=name -cf './{name}' films")
    follow(name)
    assert keys_of(f"{name.removesuffix('.tar')}-plain.tar") == KEYS


@pytest.mark.fault("C9")
def test_a_login_page_is_named(tmp_path: Path):
    for text in (b"<html>Please log in</html>", b"<!DOCTYPE html>".ljust(1024)):
        (tmp_path / "x.tar").write_bytes(text)
        with pytest.raises(ShardError, match="HTML or XML data"):
            scan_shard(tmp_path / "x.tar")


def test_a_name_with_quotes_and_spaces_is_quoted_in_the_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "it's $HOME; here"
    folder.mkdir()
    (folder / "a b's.tar").write_bytes(
        tar_of([("z.json", LABEL), ("hand-1.json", LABEL), ("hand-1.png", image(8, "png")), ("z.png", image(8, "png"))])
    )
    follow(str(folder / "a b's.tar"))
    assert keys_of("a b's-plain.tar") == ["hand-1", "z"]
