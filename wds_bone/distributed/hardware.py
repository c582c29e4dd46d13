"""What the machine has -> the settings that suit it.

In come settings that may say "auto" or nothing, out go resolved ones. The invariant: what is resolved here is written
into the run folder, so another machine continues with the same settings or says that it cannot.
"""

import hashlib
import os
import platform
from pathlib import Path
from typing import Literal

import torch
import torchvision

import wds_bone
from wds_bone.errors import ConfigError
from wds_bone.stream.settings import available_cores

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]

_LAYER_NORMED = ("convnext", "maxvit", "swin", "vit")
_CPU_BF16 = ("amx_bf16", "avx512_bf16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def pick_device(wanted: Device) -> torch.device:
    """Return the device to train on: a CUDA device if there is one, unless told otherwise.

    Raises:
        ConfigError: CUDA is asked for and cannot be used.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = f"torch {torch.__version__}, built for CUDA {torch.version.cuda}"
        raise ConfigError(
            "--device cuda: no CUDA device can be used",
            expected="a device and a driver that fit this torch",
            got=built,
            do="look at `nvidia-smi`, or give --device cpu",
        )
    return torch.device("cuda")


def pick_precision(wanted: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Return bf16 where the processor multiplies it in hardware, else fp32, unless told otherwise."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if any(torch.cpu.get_capabilities().get(name) for name in _CPU_BF16) else "fp32"


def dtype_of(precision: str) -> torch.dtype:
    """Return torch's name for a resolved precision."""
    return _DTYPES[precision]


def pick_model(wanted: str, device: torch.device) -> str:
    """Return the model's name, for "auto" one whose training is bearable: small on a CPU, modern on a GPU."""
    if wanted != "auto":
        return wanted
    return "convnext_tiny" if device.type == "cuda" else "resnet18"


def pick_rate(model: str) -> float:
    """Return the highest learning rate for a model: networks of layer norms bear less than those of batch norms."""
    return 3e-4 if model.startswith(_LAYER_NORMED) else 2e-3


def default_threads(device: torch.device) -> int | None:
    """Return how many threads decode: one beside a model on the CPU, which needs the cores itself; else all.

    The processes of a machine share its cores.
    """
    if device.type != "cuda":
        return 1
    num_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return None if num_processes == 1 else max(1, available_cores() // num_processes)


def code_digest() -> str:
    """Return the sha256 over the source files of this package: what a version number does not tell of two copies."""
    folder = Path(wds_bone.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def installed_versions() -> dict[str, str]:
    """Return the versions of what computes the numbers."""
    return {
        "wds_bone": wds_bone.__version__,
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "python": platform.python_version(),
    }
