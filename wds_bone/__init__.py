"""Bone age from hand radiographs: tar shards, a reproducible stream of their samples, training and prediction.

Imports are lazy, so that a process that only writes shards does not load torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wds_bone.inference.loaded import load_model
    from wds_bone.stream.batch import Batch
    from wds_bone.stream.stream import BoneAgeStream

__version__ = "0.2.0"
__all__ = ["Batch", "BoneAgeStream", "__version__", "load_model"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use (PEP 562)."""
    if name == "BoneAgeStream":
        from wds_bone.stream.stream import BoneAgeStream

        return BoneAgeStream
    if name == "Batch":
        from wds_bone.stream.batch import Batch

        return Batch
    if name == "load_model":
        from wds_bone.inference.loaded import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
