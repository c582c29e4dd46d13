"""Write the text index that NVIDIA DALI's webdataset reader needs to read our shards.

In: a scanned shard.
Out: the contents of `<shard>.idx`.

Format: `wds2idx` version 1.2 (DALI, `tools/wds2idx.py`): a line `v1.2 N`, then one line per sample with
`extension offset size name` for each of its members.
"""

from wds_bone.shards.scan import ScannedShard


def dali_index(shard: ScannedShard) -> bytes:
    """Return the contents of `<shard>.idx`."""
    lines = [f"v1.2 {len(shard.components)}"]
    lines += [
        " ".join(f"{ext} {offset} {size} {name}" for ext, offset, size, name in sample) for sample in shard.components
    ]
    return ("\n".join(lines) + "\n").encode()
