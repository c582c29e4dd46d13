"""Nuisances: what varies between two films of one hand, or between two hands of the same maturity.

In: a hand's seed and the names of the enabled nuisances.
Out: one number per nuisance.
Invariant: no nuisance depends on the age or the gender.

The names are hashed and stored with the samples, so they must not change.
"""

from collections.abc import Collection

from wds_bone.phantom.randomness import draw_uniform

# name: (value if disabled, lowest, highest); drawn uniformly.
RANGES: dict[str, tuple[float, float, float]] = {
    "rotation_degrees": (0.0, -15.0, 15.0),
    "shift_x": (0.5, 0.0, 1.0),  # fraction of the free margin to the left of the hand
    "shift_y": (0.5, 0.0, 1.0),  # fraction of the free margin above the hand
    "fill": (0.95, 0.90, 0.98),  # fraction of the image that the hand and the forearm occupy
    "spread_degrees": (8.0, 4.0, 14.0),
    "thumb_degrees": (32.0, 20.0, 45.0),
    "forearm": (0.18, 0.13, 0.25),  # length of the visible part, in hand lengths
    "stoutness": (1.0, 0.92, 1.08),
    "flesh": (1.0, 0.9, 1.12),  # girth of the soft tissue
    "density": (1.0, 0.88, 1.12),
    "photons": (1500.0, 300.0, 3000.0),  # per pixel in the open beam
    "scatter": (0.2, 0.1, 0.3),  # fraction of the signal
    "blur_pixels": (0.7, 0.5, 1.2),
    "gamma": (1.0, 0.7, 1.4),
    "gradient_x": (0.0, -0.12, 0.12),  # relative change of the exposure across the film
    "gradient_y": (0.0, -0.12, 0.12),
    "film_left": (1.0, 0.2, 1.4),  # distance from the hand to the edge of the film, in free margins; no edge from 1 on
    "film_right": (1.0, 0.2, 1.4),
    "collimator_tilt": (0.0, -0.12, 0.12),  # columns per row
}

# name: fraction of the films that have it.
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


def draw_nuisances(seed: int, enabled: Collection[str] = NUISANCES) -> dict[str, float]:
    """Return the value of every nuisance; those in `ODDS` are 1.0 if present and 0.0 otherwise."""
    values = {
        name: draw_uniform(seed, name, low, high) if name in enabled else neutral
        for name, (neutral, low, high) in RANGES.items()
    }
    present = {name: float(name in enabled and draw_uniform(seed, name) < odds) for name, odds in ODDS.items()}
    return values | present
