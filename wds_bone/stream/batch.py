"""One batch of samples, as training and evaluation receive it."""

from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map

from wds_bone.errors import ConfigError


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """A batch of B samples; rows with weight 0 are padding, with zeros as image and label.

    Attributes:
        image: uint8 (B, 1, H, W), gray; bones are bright.
        gender: float32 (B,), 1 male, 0 female.
        age_months: float32 (B,), the label in months.
        weight: float32 (B,), 0 for padding, else 1.
        position: int64 (B,), the position of the sample in the endless sequence of epochs.
        key: B sample keys, "" for padding.
    """

    image: Tensor
    gender: Tensor
    age_months: Tensor
    weight: Tensor
    position: Tensor
    key: list[str]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Return the batch with its tensors on `device`."""
        moved = {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.tensors().items()}
        return replace(self, **moved)  # type: ignore[arg-type]

    def parts(self, num_parts: int) -> "list[Batch]":
        """Split the batch into `num_parts` parts of equal size, in order; they share its memory."""
        rows = len(self.key) // num_parts
        slices = [slice(first, first + rows) for first in range(0, len(self.key), rows)]
        tensors_of_parts = [{name: tensor[part] for name, tensor in self.tensors().items()} for part in slices]
        return [Batch(**tensors, key=self.key[part]) for tensors, part in zip(tensors_of_parts, slices, strict=True)]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensor fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "key"}


def _refuse_collation(batches: list[Batch], **_settings: Any) -> NoReturn:
    raise ConfigError(
        f"a DataLoader cannot make batches of {len(batches)} of what a BoneAgeStream yields: these are batches already",
        do="use the stream itself as the loader, or DataLoader(stream, batch_size=None, num_workers=0)",
    )


default_collate_fn_map[Batch] = _refuse_collation  # torch's own error does not say what to do
