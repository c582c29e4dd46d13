"""Test the errors for settings that need too much memory, and for running out of it."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from wds_bone.distributed.memory import memory_errors, refuse_beyond_memory, refuse_small_shm
from wds_bone.errors import ConfigError, WdsBoneError

CPU = torch.device("cpu")
TERABYTE = 10**12


@pytest.mark.fault("E2")
def test_running_out_of_memory_is_reported_with_the_device_and_a_remedy():
    with (
        pytest.raises(WdsBoneError, match="memory of the cuda device") as refused,
        memory_errors("cuda", got="--batch-size 64", do="give a smaller --batch-size"),
    ):
        raise torch.OutOfMemoryError
    assert refused.value.do == "give a smaller --batch-size"


@pytest.mark.fault("E2")
@pytest.mark.parametrize("allocate", [lambda: torch.zeros(10**17), lambda: np.zeros(10**17), lambda: bytearray(10**17)])
def test_running_out_of_memory_on_the_cpu_is_reported_too(allocate):
    with pytest.raises(WdsBoneError, match="memory of the cpu device"), memory_errors("cpu", got="", do=""):
        allocate()


@pytest.mark.fault("E2")
@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "backend='inductor' raised: CUDA out of memory. Tried to allocate 20.00 MiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling it",
        "CUDA driver error: out of memory",
        "NCCL error: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
    ],
)
def test_running_out_of_memory_in_a_library_of_the_device_is_reported_too(text: str):
    with pytest.raises(WdsBoneError, match="memory of the cuda device"), memory_errors("cuda", got="", do=""):
        raise RuntimeError(text)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("a file"), ConfigError("x", do="y")])
def test_any_other_error_is_raised_unchanged(error: Exception):
    with pytest.raises(type(error)) as raised, memory_errors("cuda", got="", do=""):
        raise error
    assert raised.value is error


@pytest.mark.fault("D9")
def test_what_cannot_fit_is_refused_with_the_parts_and_the_limit():
    with pytest.raises(ConfigError, match="the cpu device has too little memory for --batch-size 9") as refused:
        refuse_beyond_memory({"images": 900 * TERABYTE, "layers": 99 * TERABYTE}, CPU, got="--batch-size 9", do="")
    assert refused.value.got == "at least 999.0 TB: 900.0 TB for images, 99.0 TB for layers"
    assert "at most" in str(refused.value)
    refuse_beyond_memory({"images": 1000}, CPU, got="--batch-size 9", do="")


@pytest.mark.fault("D9")
def test_processes_on_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000000")
    with pytest.raises(ConfigError, match="shared by 1000000 processes"):
        refuse_beyond_memory({"images": 100_000_000}, CPU, got="", do="")


@pytest.mark.fault("D9")
def test_shared_memory_that_is_too_small_for_nccl_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(free=1 << 20))
    refuse_small_shm(1, tmp_path)
    with pytest.raises(ConfigError, match="too small for 4 processes with a GPU each") as refused:
        refuse_small_shm(4, tmp_path)
    assert (refused.value.expected, refused.value.got) == ("at least 40.0 MB free", "1.0 MB free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(free=1 << 30))
    refuse_small_shm(4, tmp_path)
