"""Find validation samples that are also training samples, whose error says nothing about other hands.

In: the sample tables of a training and a validation stream.
Out: a warning, or None.
Invariant: samples are compared by key, image bytes and label; nothing but the indexes is read.
"""

from wds_bone.shards.samples import SampleTable
from wds_bone.shards.sidecars import rows_with_common_keys


def leak_text(train: SampleTable, val: SampleTable) -> str | None:
    """Return a warning if validation samples are, or may be, training samples; None if no sample is in both.

    Equal keys alone are common in the sets of different hospitals, which count their films from 1.
    """
    pairs = rows_with_common_keys(train, val)
    same = [row["key"] for row, other in pairs if (row["crc32"], row["size"]) == (other["crc32"], other["size"])]
    if same:
        return (
            f"warning: {_count(same, val)} are also training samples, so the validation error says nothing about other "
            "hands; let --train name only training shards, such as 'shards/train-*.tar'"
        )
    names = ["gender", "age_months"]
    alike = [row["key"] for row, other in pairs if row[names].item() == other[names].item()]
    if not alike:
        return None
    return (
        f"warning: {_count(alike, val)} have the key, gender and age of a training sample; if they are the same hands, "
        "the validation error says nothing about other hands"
    )


def _count(keys: list[bytes], val: SampleTable) -> str:
    return f"{len(keys):,} of the {len(val):,} validation samples (the first is '{keys[0].decode()}')"
