"""Format the sample counts of a set.

In: a manifest.
Out: text, and the names of the pictures that a set has.
Invariant: everything is read back from the manifest, so that a wrong label is visible.
"""

import numpy as np

from wds_bone.labels.values import GENDER_NAMES
from wds_bone.shards.manifest import Manifest
from wds_bone.shards.statistics import AGE_BAND_MONTHS, NUM_AGE_BANDS

SHEET_NAME = "contact-sheet.png"
HISTOGRAM_NAME = "age-histogram.png"
BANDS_PER_COLUMN = 2
"""Two years per column, in the contact sheet and in the table."""


def format_counts(manifest: Manifest) -> str:
    """Return a table of the samples per split, gender and two-year age range, then a summary line per split."""
    width = max(len("split"), *map(len, manifest.splits))
    starts = range(0, NUM_AGE_BANDS * AGE_BAND_MONTHS, BANDS_PER_COLUMN * AGE_BAND_MONTHS)
    lines = ["samples per split, gender and bone age; columns: lower bound in months"]
    lines.append(f"{'split':<{width}}{'all':>13}" + "".join(f"{start:>6}" for start in starts))
    for name, split in sorted(manifest.splits.items()):
        for gender, shown in GENDER_NAMES.items():
            counts = np.reshape(split.labels["age_histogram"][gender], (-1, BANDS_PER_COLUMN)).sum(axis=1)
            cells = "".join(f"{count:>6}" for count in counts)
            lines.append(f"{name:<{width}} {shown:<5}{split.labels['genders'][gender]:>7}{cells}")
    for name, split in sorted(manifest.splits.items()):
        age, megabytes = split.labels["age_months"], sum(shard.shard_bytes for shard in split.shards) / 1e6
        lines.append(
            f"{name}: {format_num_samples(split.num_samples, len(split.shards))}, {megabytes:,.1f} MB; "
            f"age {age['mean']:.1f} ± {age['sd']:.1f} months, {age['min']:g} to {age['max']:g}"
            + ("; films are grouped by patient" if all(shard.groups_sha256 for shard in split.shards) else "")
        )
    return "\n".join(lines)


def format_num_samples(num_samples: int, num_shards: int) -> str:
    """Return the number of samples and shards of a split as a phrase."""
    return f"{num_samples:,} samples in {num_shards} shard{'s' * (num_shards != 1)}"
