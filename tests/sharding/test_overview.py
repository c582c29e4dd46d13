from pathlib import Path

from wds_bone.sharding.overview import format_counts
from wds_bone.shards.manifest import read_manifest


def test_the_table_counts_every_sample_once(tiny_shards: Path):
    lines = format_counts(read_manifest(tiny_shards / "manifest.json")).splitlines()
    rows = {tuple(line.split()[:2]): [int(cell) for cell in line.split()[2:]] for line in lines[2:6]}
    assert set(rows) == {("train", "girls"), ("train", "boys"), ("val", "girls"), ("val", "boys")}
    assert sum(cells[0] for cells in rows.values()) == 50
    assert all(cells[0] == sum(cells[1:]) for cells in rows.values())
    assert "train: 40 samples in 3 shards" in lines[6]
    assert [lines[1][: lines[1].index("all") + 3], len(lines[1])] == ["split          all", len(lines[2])]
    assert all(len(line) <= 80 for line in lines)
