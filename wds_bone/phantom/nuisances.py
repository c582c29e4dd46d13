"""What differs between two films of the same hand, and between two hands of the same maturity.

In: a hand's seed and the names that are switched on. Out: one number per nuisance.
Invariant: nothing here knows the age or the gender.
"""

from collections.abc import Collection

from wds_bone.phantom.chance import draw_uniform

# name: (value when switched off, lowest, highest); drawn uniformly.
RANGES: dict[str, tuple[float, float, float]] = {
    "rotation_degrees": (0.0, -15.0, 15.0),
    "shift_x": (0.5, 0.0, 1.0),  # share of the free margin that lies left of the hand
    "shift_y": (0.5, 0.0, 1.0),  # share of the free margin that lies above the hand
    "fill": (0.95, 0.90, 0.98),  # share of the picture that hand and forearm take
    "spread_degrees": (8.0, 4.0, 14.0),
    "thumb_degrees": (32.0, 20.0, 45.0),
    "forearm": (0.18, 0.13, 0.25),  # visible forearm in hand lengths
    "stoutness": (1.0, 0.92, 1.08),
    "flesh": (1.0, 0.9, 1.12),
    "density": (1.0, 0.88, 1.12),
    "photons": (1500.0, 300.0, 3000.0),  # per pixel in the open beam
    "scatter": (0.2, 0.1, 0.3),  # share of the signal
    "blur_pixels": (0.7, 0.5, 1.2),
    "gamma": (1.0, 0.7, 1.4),
    "gradient_x": (0.0, -0.12, 0.12),  # relative change of the exposure across the film
    "gradient_y": (0.0, -0.12, 0.12),
    "film_left": (1.0, 0.2, 1.4),  # where the film ends, in free margins beside the hand; from 1 on not at all
    "film_right": (1.0, 0.2, 1.4),
    "collimator_tilt": (0.0, -0.12, 0.12),  # columns per row
}

# name: share of the films that have it.
ODDS: dict[str, float] = {
    "marker": 0.7,
    "collimated": 0.3,
    "dead_column": 0.05,
    "ring": 0.02,
    "inverted": 0.02,
    "right_hand": 0.03,
    "quarter_turn": 0.01,
}

NUISANCES: tuple[str, ...] = (*RANGES, *ODDS)


def draw_nuisances(seed: int, switched_on: Collection[str] = NUISANCES) -> dict[str, float]:
    """Return the value of every nuisance: 0 or 1 for those that a film has or has not."""
    values = {
        name: draw_uniform(seed, name, low, high) if name in switched_on else neutral
        for name, (neutral, low, high) in RANGES.items()
    }
    has = {name: float(name in switched_on and draw_uniform(seed, name) < odds) for name, odds in ODDS.items()}
    return values | has
