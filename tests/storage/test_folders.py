"""Folders are listed while other programs change them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wds_bone.storage.folders import file_sizes


def test_a_file_that_another_program_deletes_meanwhile_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "kept").write_bytes(b"123")
    (tmp_path / "gone").touch()
    (tmp_path / "folder").mkdir()
    scan = os.scandir

    @contextmanager
    def scan_and_delete(folder: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scan(folder) as entries:
            found = list(entries)
        (tmp_path / "gone").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", scan_and_delete)
    assert file_sizes(tmp_path) == {"kept": 3}
