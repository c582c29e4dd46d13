"""Refuse steps that need more memory than the device has, before the first one.

In: a model, the recipe of its steps, and the size of its images.
Out: nothing, or an error with what each part needs.
Invariant: what is refused could not have run; what passes may still run out of memory.
"""

from functools import partial
from itertools import groupby, islice

import torch

from wds_bone.distributed.memory import refuse_beyond_memory
from wds_bone.learn.loop import image_fraction
from wds_bone.learn.settings import Recipe, TrainConfig
from wds_bone.model.footprint import measure_step_bytes
from wds_bone.model.model import BoneAgeModel
from wds_bone.model.preprocess import Preprocessing

COPIES_OF_IMAGES = 2
"""The augmented images and the model's standardized ones, as long as the layers compute. Before that, normalization and
augmentation take up to seven copies at a time, and 30 bytes per stored pixel. This is less than the layers of a model
take, unless the stored images are much larger than its input."""
COPIES_OF_WEIGHTS = 4
"""The weights, their average, and the two moments of the optimizer."""
KEPT_FRACTION = 0.5
"""Part of what a step keeps that it keeps in any case: fused attention and compiled models compute the rest again."""
REMEDY = (
    "use a larger --set accumulate; or a smaller --batch-size or --image-size with another --out; or a machine with "
    "more memory"
)
ONE_SIZE = "use --set first_size=1, which trains on images of a single size, or another --model"


def memory_settings(config: TrainConfig) -> str:
    """Return the settings that determine how much memory a step needs, as they are typed."""
    batch = f"--batch-size {config.batch_size}, --set accumulate={config.accumulate}"
    pixels = "as stored" if config.image_size is None else f"of {config.image_size} pixels"
    return f"--model {config.model}, {batch}, images {pixels}"


def refuse_large_steps(
    model: BoneAgeModel, recipe: Recipe, preprocessing: Preprocessing, *, device: torch.device
) -> None:
    """Check that the model can be trained on such images, and that a step fits into the memory of the device.

    If the images grow, their first sizes are tried, too; the last one needs the most memory.

    Raises:
        ConfigError: if not.
    """
    config, (height, width) = recipe.config, (preprocessing.height, preprocessing.width)
    num_images = recipe.local_batch_size // config.accumulate
    measure = partial(measure_step_bytes, model, name=config.model, num_images=num_images)
    kept_bytes = measure(height=height, width=width)
    for smaller in _first_sizes(recipe, preprocessing):
        measure(height=smaller.height, width=smaller.width, do=ONE_SIZE)
    num_weights = sum(weight.numel() for weight in model.parameters())
    needed = {
        "the input of the model": num_images * height * width * COPIES_OF_IMAGES * torch.float32.itemsize,
        "the layers of the model": int(kept_bytes * KEPT_FRACTION * (0.5 if config.precision == "bf16" else 1.0)),
        "its weights and the optimizer": num_weights * COPIES_OF_WEIGHTS * torch.float32.itemsize,
    }
    refuse_beyond_memory(needed, device, got=memory_settings(config), do=REMEDY)


def _first_sizes(recipe: Recipe, preprocessing: Preprocessing) -> list[Preprocessing]:
    """Return the first two sizes of images that grow; none if they do not.

    A model for a single size fails at the first, and one for multiples of 8, 16 or 32 pixels at one of them, unless the
    run is so short that it leaves sizes out. Trying all sizes would take up to a minute.
    """
    steps = range(recipe.num_steps if recipe.config.first_size < 1.0 else 0)
    sizes = (preprocessing.reduced(image_fraction(step, recipe)) for step in steps)
    return [size for size, _ in islice(groupby(sizes), 2)]  # they never shrink
