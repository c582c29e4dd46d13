import hashlib
import os
import pickle
import re
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from tests.checkpoints import complete_contents
from tests.learn.runs import limit_file_size
from wds_bone.errors import CheckpointError, WdsBoneError
from wds_bone.model.checkpoint import has_checksum_line, load_checkpoint, save_checkpoint

CONTENTS = complete_contents(weights=torch.arange(6.0).reshape(2, 3), step=7, name=None, nested={"values": [1.5, "a"]})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "last.pt"
    save_checkpoint(path, CONTENTS)
    return path


def test_loading_returns_what_was_saved(saved: Path):
    loaded = load_checkpoint(saved)
    assert torch.equal(loaded.pop("weights"), CONTENTS["weights"])
    del loaded["format"]
    assert loaded == {name: value for name, value in CONTENTS.items() if name != "weights"}


def test_plain_torch_can_read_the_file(saved: Path):
    assert torch.load(saved, weights_only=True)["step"] == 7


@pytest.mark.fault("F3")
def test_any_flipped_bit_is_detected(saved: Path, tmp_path: Path):
    whole, damaged = saved.read_bytes(), tmp_path / "damaged.pt"
    for offset in range(len(whole)):
        changed = bytearray(whole)
        changed[offset] ^= 1 << offset % 8
        damaged.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"damaged\.pt"):
            load_checkpoint(damaged)


@pytest.mark.fault("F3")
def test_any_truncation_is_detected(saved: Path, tmp_path: Path):
    whole, damaged = saved.read_bytes(), tmp_path / "cut.pt"
    for num_bytes in range(len(whole)):
        damaged.write_bytes(whole[:num_bytes])
        with pytest.raises(CheckpointError, match="is not a checkpoint, or is truncated"):
            load_checkpoint(damaged)


@pytest.mark.fault("F3")
def test_bytes_added_before_or_after_are_detected(saved: Path, tmp_path: Path):
    longer = tmp_path / "longer.pt"
    for content in (b"x" + saved.read_bytes(), saved.read_bytes() + b"x"):
        longer.write_bytes(content)
        with pytest.raises(CheckpointError):
            load_checkpoint(longer)


@pytest.mark.fault("F3")
def test_a_missing_file_and_a_folder_are_errors_that_name_them(tmp_path: Path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(CheckpointError, match=path.name):
            load_checkpoint(path)


@pytest.mark.fault("F3")
def test_weights_from_another_program_are_not_mistaken_for_a_checkpoint(tmp_path: Path):
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.ones(2)}, path)
    assert not has_checksum_line(path)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.fault("F3")
def test_code_in_a_file_with_a_valid_checksum_is_not_executed(tmp_path: Path):
    canary, path = tmp_path / "executed", tmp_path / "evil.pt"
    save_checkpoint(path, {"payload": Payload(canary)})
    with pytest.raises(CheckpointError, match="not a checkpoint of tensors and plain types"):
        load_checkpoint(path)
    assert not canary.exists()


@pytest.mark.fault("F3")
def test_damage_that_was_sealed_with_a_new_checksum_is_named(tmp_path: Path):
    path = tmp_path / "damaged.pt"
    save_checkpoint(path, complete_contents())
    whole = path.read_bytes().rpartition(b"\nwds_bone sha256 ")[0]
    start = whole.index(b"data.pkl")
    for position in range(start, start + 700):
        damaged = whole[:position] + bytes([whole[position] ^ 0x85]) + whole[position + 1 :]
        path.write_bytes(damaged + b"\nwds_bone sha256 " + hashlib.sha256(damaged).hexdigest().encode() + b"\n")
        with suppress(CheckpointError):
            load_checkpoint(path)


@pytest.mark.fault("E9")
@pytest.mark.parametrize("version", ["0", "9"])
def test_another_version_of_the_format_is_refused(version: str, tmp_path: Path):
    path = tmp_path / "other.pt"
    save_checkpoint(path, complete_contents(format=f"wds_bone checkpoint {version}"))
    with pytest.raises(CheckpointError, match="different format") as refused:
        load_checkpoint(path)
    assert refused.value.got == f"wds_bone checkpoint {version}"


@pytest.mark.fault("E9")
@pytest.mark.parametrize("name", [*complete_contents(), "config.model", "target.sd_months", "preprocessing.height"])
def test_an_incomplete_checkpoint_is_refused_with_what_it_lacks(name: str, tmp_path: Path):
    contents, path = complete_contents(), tmp_path / "partial.pt"
    outer, _, inner = name.partition(".")
    if inner:
        contents[outer] = {part: value for part, value in contents[outer].items() if part != inner}
    else:
        contents[outer] = "no mapping"
    save_checkpoint(path, contents)
    with pytest.raises(CheckpointError, match=rf"partial\.pt: the checkpoint is incomplete(?s:.*)no {re.escape(name)}"):
        load_checkpoint(path)


@pytest.mark.fault("F2")
def test_a_failed_save_keeps_the_old_checkpoint(tmp_path: Path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, CONTENTS)
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"weights": torch.ones(1000), "function": lambda: None})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.fault("F2")
def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(WdsBoneError, match="gone"):
        save_checkpoint(tmp_path / "gone" / "last.pt", CONTENTS)


@pytest.mark.fault("F2")
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_disk_that_fills_up_is_an_error_and_the_old_checkpoint_is_kept(fraction: float, tmp_path: Path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, CONTENTS)
    before = path.read_bytes()
    larger = {"weights": [torch.ones(20_000) for _ in range(5)]}
    save_checkpoint(tmp_path / "larger.pt", larger)
    num_bytes = int(fraction * (tmp_path / "larger.pt").stat().st_size)
    with pytest.raises(WdsBoneError, match=r"last\.pt: cannot be written: File too large"), limit_file_size(num_bytes):
        save_checkpoint(path, larger)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"last.pt", "larger.pt"}
