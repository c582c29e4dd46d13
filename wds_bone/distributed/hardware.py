"""Choose the settings that suit the machine.

In: settings that may be "auto" or not set.
Out: resolved settings.
Invariant: resolved settings are written to the run folder, so another machine resumes with the same settings or reports
that it cannot.
"""

import hashlib
import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
import torchvision

import wds_bone
from wds_bone.model.timm_models import TIMM_PREFIX
from wds_bone.stream.device import no_cuda_error
from wds_bone.stream.settings import available_cores

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]

# Families of torchvision and timm whose blocks have layer norms; building a model to look for them can take seconds.
_LAYER_NORMED = (
    *("aimv2", "beit", "caformer", "cait", "coat", "convformer", "convit", "convnext", "crossvit", "csatv2", "davit"),
    *("deit", "edgenext", "efficientformer_", "efficientvim", "eva", "flexivit", "focalnet", "gcvit", "gmixer"),
    *("gmlp", "hiera", "mambaout", "maxvit", "maxxvit", "mixer", "mobilevit_", "mvitv2", "naflexvit", "nest", "pit"),
    *("poolformer", "pvt", "qwen3_vit", "rdnet", "sam2_hiera", "samvit", "sequencer2d", "swin", "test_convnext"),
    *("test_vit", "tiny_vit", "tnt", "twins", "vit", "volo", "xcit"),
)
_CPU_BF16 = ("amx_bf16", "avx512_bf16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def pick_device(wanted: Device) -> torch.device:
    """Return the device to use: "auto" means CUDA if it is available.

    Raises:
        ConfigError: if CUDA is requested and not available.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise no_cuda_error("--device cuda", alternative="--device cpu")
    return torch.device("cuda")


def pick_precision(wanted: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the precision to use: "auto" means bf16 if the processor multiplies it in hardware, otherwise fp32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if any(torch.cpu.get_capabilities().get(name) for name in _CPU_BF16) else "fp32"


def dtype_of(precision: str) -> torch.dtype:
    """Return the torch dtype of a resolved precision."""
    return _DTYPES[precision]


def pick_model(wanted: str, device: torch.device) -> str:
    """Return the name of the model: "auto" means a small one on a CPU and a modern one on a GPU."""
    if wanted != "auto":
        return wanted
    return "convnext_tiny" if device.type == "cuda" else "residual-16x2222-s2"


def pick_rate(model: str) -> float:
    """Return the default peak learning rate of a model; layer norms need a lower one than batch norms do."""
    return 3e-4 if model.removeprefix(TIMM_PREFIX).startswith(_LAYER_NORMED) else 2e-3


def default_threads(device: torch.device) -> int | None:
    """Return the number of decoding threads: one if the model uses the CPU, otherwise one per core (None: all cores).

    The processes on a machine share its cores.
    """
    if device.type != "cuda":
        return 1
    num_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return None if num_processes == 1 else max(1, available_cores() // num_processes)


def code_digest() -> str:
    """Return the sha256 of the source files of this package, which tells copies of the same version apart."""
    folder = Path(wds_bone.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def installed_versions(*models: str) -> dict[str, str]:
    """Return the versions of the packages that affect the numbers of these models, with timm's if one is from timm."""
    versions = {
        "wds_bone": wds_bone.__version__,
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "python": platform.python_version(),
    }
    if any(model.startswith(TIMM_PREFIX) for model in models):
        with suppress(metadata.PackageNotFoundError):  # then the model is refused when it is built
            versions["timm"] = metadata.version("timm")
    return versions
