"""Test the memory that a model is measured to need."""

import torch

from wds_bone.model.footprint import measure_forward_bytes, measure_step_bytes
from wds_bone.model.layers import freeze_backbone
from wds_bone.model.model import build_model


def saved_bytes(model: torch.nn.Module, image: torch.Tensor) -> int:
    """Return what a real forward pass keeps for its gradients."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {weight.untyped_storage().data_ptr() for weight in [*model.parameters(), *model.buffers()]}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(image)
    assert output.requires_grad
    return sum(num_bytes for address, num_bytes in kept.items() if address not in own)


def test_what_a_step_keeps_is_measured_without_computing_it():
    model = build_model("resnet18")
    measured = measure_step_bytes(model, name="resnet18", num_images=2, height=64, width=96)
    assert 0.9 < measured / saved_bytes(model.backbone, torch.zeros(2, 1, 64, 96)) < 1.1
    of_many = measure_step_bytes(model, name="resnet18", num_images=10**9, height=64, width=96)
    assert 0.9 < of_many / (10**9 // 2 * measured) < 1.1


def test_a_frozen_backbone_keeps_nothing():
    model = build_model("resnet18")
    freeze_backbone(model)
    assert measure_step_bytes(model, name="resnet18", num_images=2, height=64, width=64) < 100_000


def test_the_largest_tensor_of_a_forward_pass_is_that_of_the_first_convolution():
    model = build_model("resnet18").eval()  # its weights are larger
    assert measure_forward_bytes(model, num_images=3, height=64, width=64) == 3 * 64 * 32 * 32 * 4
