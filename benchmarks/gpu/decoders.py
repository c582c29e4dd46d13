"""Decoders that the loader is compared with: libjpeg-turbo in threads, and nvJPEG on the GPU.

In: encoded films in RAM.
Out: endless generators of the number of images in each batch.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any

import numpy as np
import simplejpeg

from benchmarks.loaders import BATCH_SIZE

Decoder = Callable[..., Any]
CHUNK = 16
"""Films that a thread decodes at a time, as in the loader."""


def decode_in_threads(films: Sequence[bytes], *, size: int, threads: int) -> Generator[int]:
    """Decode the films again and again with some threads, into memory that is reused."""
    endless, pixels = cycle(films), np.empty((2 * threads, size, size, 1), np.uint8)

    def decode(chunk: list[bytes], row: np.ndarray) -> int:
        for film in chunk:
            simplejpeg.decode_jpeg(film, colorspace="GRAY", buffer=row)
        return len(chunk)

    with ThreadPoolExecutor(threads) as pool:
        started: deque[Future[int]] = deque()
        for row in cycle(pixels):
            if len(started) == len(pixels):
                yield started.popleft().result()
            started.append(pool.submit(decode, list(islice(endless, CHUNK)), row))


def find_nvjpeg(device: str) -> Decoder | None:
    """Return the function that decodes JPEG on the GPU: that of torchcodec, or of torchvision; None without one."""
    if device != "cuda":
        return None
    try:
        from torchcodec.decoders import decode_jpeg  # since 0.16
    except (ImportError, OSError, RuntimeError):  # missing, older, or built for another torch
        from torchvision.io import decode_jpeg
    try:
        _decode(decode_jpeg, [simplejpeg.encode_jpeg(np.zeros((16, 16, 1), np.uint8), colorspace="GRAY")])
    except RuntimeError as error:  # built without nvJPEG
        print(f"nvJPEG is not available: {error}")
        return None
    return decode_jpeg


def decode_on_gpu(decode_jpeg: Decoder, films: Sequence[bytes]) -> Generator[int]:
    """Decode batches of the films again and again on the GPU, including the copy of the bytes."""
    import torch

    endless = cycle(films)
    while True:
        batch = list(islice(endless, BATCH_SIZE))
        _decode(decode_jpeg, batch)
        torch.cuda.synchronize()
        yield len(batch)


def _decode(decode_jpeg: Decoder, films: Sequence[bytes]) -> None:
    import torch
    from torchvision.io import ImageReadMode

    is_torchcodec = decode_jpeg.__module__.startswith("torchcodec")
    mode = "GRAY" if is_torchcodec else ImageReadMode.GRAY
    # A bytearray, because torch warns about memory that it must not write to.
    decode_jpeg([torch.frombuffer(bytearray(film), dtype=torch.uint8) for film in films], mode=mode, device="cuda")
