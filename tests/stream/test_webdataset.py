"""Plain webdataset reads our shards, and a stream reads shards that plain webdataset wrote."""

import io
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from tests.sample_sets import age_of, image_of, write_set
from wds_bone import BoneAgeStream


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its files to the garbage collector
def test_plain_webdataset_reads_our_shards(tmp_path: Path) -> None:
    write_set(tmp_path, train=[5, 4])
    url = str(tmp_path / "train-{000000..000001}.tar")
    samples = list(webdataset.WebDataset(url, shardshuffle=False).decode("l8"))
    assert [sample["__key__"] for sample in samples] == [f"hand-{n}" for n in range(9)]
    for number, sample in enumerate(samples):
        assert sample["json"] == {"age_months": age_of(number), "gender": "FM"[number % 2]}
        assert (sample["png"] == image_of(number, 16)).all()


def png_of(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image_of(number, 16)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


LABELS = {
    "our json": lambda number: {"json": {"gender": "FM"[number % 2], "age_months": age_of(number), "site": "x"}},
    "rsna json": lambda number: {"json": {"id": number, "boneage": age_of(number), "male": bool(number % 2)}},
    "members": lambda number: {"gender": "FM"[number % 2], "age_months": str(age_of(number))},
    "flag members": lambda number: {"male": str(number % 2), "age": str(age_of(number)).encode()},
}


@pytest.mark.parametrize("dialect", LABELS)
def test_a_stream_reads_shards_that_plain_webdataset_wrote(tmp_path: Path, dialect: str) -> None:
    with webdataset.ShardWriter(str(tmp_path / "train-%06d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(10):
            label = {
                name: value.encode() if isinstance(value, str) else value
                for name, value in LABELS[dialect](number).items()
            }
            writer.write({"__key__": f"folder/hand-{number}", "png": png_of(number), **label})
    with BoneAgeStream(str(tmp_path / "train-{000000..000002}.tar"), batch_size=4, threads=2) as stream:
        assert len(stream) == 3
        delivered = list(stream)
    keys = [key for batch in delivered for key in batch.key if key]
    assert sorted(keys) == sorted(f"folder/hand-{number}" for number in range(10))
    for batch in delivered:
        real = batch.weight > 0
        assert batch.image[real, 0, 8, 8].tolist() == batch.age_months[real].tolist()
        assert np.array_equal(batch.gender[real].numpy() > 0, batch.image[real, 0, 0, 0].numpy() > 100)
