import tarfile
from pathlib import Path

import numpy as np
import webdataset

from tests.shards.tars import LABEL, image, tar_of
from wds_bone.shards.dali import dali_index
from wds_bone.shards.scan import scan_shard


def wds2idx(path: Path) -> str:
    """Return what NVIDIA's tools/wds2idx.py writes when no tar program is available."""
    samples: dict[str, list[str]] = {}
    with tarfile.open(path) as tar:
        for entry in tar:
            key, _, extension = entry.name.partition(".")
            samples.setdefault(key, []).append(f"{extension} {entry.offset_data} {entry.size} {entry.name}")
    return "\n".join([f"v1.2 {len(samples)}", *(" ".join(parts) for parts in samples.values())]) + "\n"


def test_the_index_equals_that_of_dalis_own_tool(tmp_path: Path):
    path = tmp_path / "train-000000.tar"
    with path.open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
        for number in range(5):
            picture = np.full((9, 7), number, np.uint8)
            tar.write({"__key__": f"hand-{number}", "png": picture, "json": {"gender": "F", "age_months": number}})
    assert dali_index(scan_shard(path)).decode() == wds2idx(path)


def test_extensions_keep_their_case_and_members_may_fill_whole_blocks(tmp_path: Path):
    path = tmp_path / "train-000000.tar"
    path.write_bytes(
        tar_of([("x.JPG", image(8, "jpg")), ("x.json", LABEL.ljust(512)), ("y.NPY", image()), ("y.json", LABEL)])
    )
    assert dali_index(scan_shard(path)).decode() == wds2idx(path)
    assert " x.JPG json " in dali_index(scan_shard(path)).decode()


def test_a_leading_dot_slash_stays_in_the_names_of_the_index(tmp_path: Path):
    path = tmp_path / "train-000000.tar"
    path.write_bytes(tar_of([("./a/x.png", image(8, "png")), ("./a/x.json", LABEL)]))
    line = dali_index(scan_shard(path)).decode().splitlines()[1]
    assert line == f"png 512 {len(image(8, 'png'))} ./a/x.png json 1536 {len(LABEL)} ./a/x.json"
