import numpy as np
import pytest

from wds_bone.shards.encoding import encode_image
from wds_bone.stream.decode import decode_into

STORED = (24, 32)


def picture(shape: tuple[int, int]) -> np.ndarray:
    return (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * 3).astype(np.uint8)


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
def test_a_row_of_a_batch_is_filled(encoding: str) -> None:
    batch = np.zeros((3, *STORED), np.uint8)
    decode_into(encode_image(picture(STORED), encoding), encoding, batch[1])  # type: ignore[arg-type]
    assert np.abs(batch[1].astype(int) - picture(STORED)).max() <= (2 if encoding == "jpg" else 0)
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
@pytest.mark.parametrize("shape", [(24, 31), (32, 24), (23, 32), (48, 64), (16, 48), (8, 8)])
def test_an_image_of_another_size_is_refused_and_its_neighbours_stay(encoding: str, shape: tuple[int, int]) -> None:
    batch = np.zeros((3, *STORED), np.uint8)
    with pytest.raises(ValueError, match=rf"{shape[0]}\D+{shape[1]}"):
        decode_into(encode_image(picture(shape), encoding), encoding, batch[1])  # type: ignore[arg-type]
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
def test_what_is_no_image_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_into(b"no image at all, but long enough to look like one", encoding, np.zeros(STORED, np.uint8))


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
def test_an_image_of_another_size_is_letterboxed_when_asked(encoding: str) -> None:
    row = np.zeros((16, 16), np.uint8)
    decode_into(encode_image(np.full((8, 16), 200, np.uint8), encoding), encoding, row, fit=True)
    assert abs(int(row[8, 8]) - 200) <= 2
    assert row[0, 0] == 0
