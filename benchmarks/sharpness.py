"""Does a model see films of one sharpness in training and in evaluation, and what does a difference cost in months?

Command:   python -m benchmarks.sharpness --checkpoint FILE --shards PATH [--split val] [--num-films 256] [--draws 16]
Compared:  the power spectra of films as training moves them and as evaluation samples them: in place as the checkpoint
           does, and without sampling (phase 0, as up to version 0.2.0). Then the errors of the checkpoint on the films
           as they are stored, shifted by a quarter of a pixel in both directions without a loss of sharpness (a phase
           in the Fourier domain), and shifted by as much bilinearly, which also blurs.
Method:    ratio of the mean powers in ten rings of the frequency plane, relative to the Nyquist frequency.
Machine:   CPU.
Result:    printed; EXPERIMENTS.md draws the conclusion.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.perturbations import shifted_bilinearly, shifted_exactly
from wds_bone import BoneAgeStream
from wds_bone.inference.predictor import Predictor, restore_predictor
from wds_bone.model.augment import Ranges, augment
from wds_bone.model.checkpoint import load_checkpoint
from wds_bone.model.preprocess import Preprocessing

NUM_RINGS = 10
GEOMETRY = ("flip", "turn_degrees", "scale", "shift")


def as_stored(image: Tensor) -> Tensor:
    """Return the films themselves."""
    return image


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "as stored": as_stored,
    "shifted exactly": shifted_exactly,
    "shifted bilinearly": shifted_bilinearly,
}


def ring_powers(image: Tensor) -> Tensor:
    """Return the mean power in rings of equal width up to the Nyquist frequency, float64 (NUM_RINGS,)."""
    height, width = image.shape[2:]
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)
    centered = (image - image.mean((2, 3), keepdim=True)) * window
    power = torch.fft.fft2(centered).abs().square().double().mean((0, 1))
    radius = 2 * torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None, :])
    ring = (radius * NUM_RINGS).long()
    return torch.stack([power[ring == number].mean() for number in range(NUM_RINGS)])


def spectral_ratio(image: Tensor, preprocessing: Preprocessing, ranges: Ranges, *, num_draws: int) -> Tensor:
    """Return the power in training relative to the power in evaluation, float64 (NUM_RINGS,)."""
    positions = torch.arange(num_draws * len(image)).view(num_draws, -1)
    moved = [augment(image, position, preprocessing=preprocessing, seed=0, ranges=ranges) for position in positions]
    return torch.stack([ring_powers(part) for part in moved]).mean(0) / ring_powers(preprocessing.to_input(image))


def errors(predictor: Predictor, stream: BoneAgeStream, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return predicted minus true age of all films of the stream, in months."""
    stream.set_epoch(0)
    batches = [
        (predictor.predict_months(change(batch.image), batch.gender) - batch.age_months)[batch.weight > 0]
        for batch in stream
    ]
    return torch.cat(batches)


def parse_arguments() -> argparse.Namespace:
    """Return the options of this program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument("--shards", required=True, metavar="PATH")
    parser.add_argument("--split", default="val", metavar="NAME")
    parser.add_argument("--num-films", type=int, default=256, metavar="N", help="films for the spectra")
    parser.add_argument("--draws", type=int, default=16, metavar="N", help="times that each of them is moved")
    return parser.parse_args()


def main() -> None:
    """Print the spectra and the errors."""
    args = parse_arguments()
    contents = load_checkpoint(args.checkpoint)
    predictor = restore_predictor(contents, device="cpu")
    phases = {"as in the checkpoint": predictor.preprocessing.phase_pixels, "without sampling": 0.0}
    geometry = Ranges(**{name: contents["config"][f"augment_{name}"] for name in GEOMETRY})
    with BoneAgeStream(args.shards, split=args.split, batch_size=64, shuffle=False) as stream:
        films = torch.cat([batch.image for batch in islice(stream, math.ceil(args.num_films / 64))])
        for name, phase in phases.items():
            preprocessing = replace(predictor.preprocessing, phase_pixels=phase)
            ratio = spectral_ratio(films[: args.num_films], preprocessing, geometry, num_draws=args.draws)
            print(f"training / evaluation, {name}:", *(f"{value:.2f}" for value in ratio.tolist()))
        for name, phase in phases.items():
            sampling = replace(predictor, preprocessing=replace(predictor.preprocessing, phase_pixels=phase))
            for change_name, change in CHANGES.items():
                error = errors(sampling, stream, change)
                print(f"{name}, {change_name}: MAE {error.abs().mean():.2f}, bias {error.mean():+.2f} months")


if __name__ == "__main__":
    main()
