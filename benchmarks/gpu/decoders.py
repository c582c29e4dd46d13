"""Decoders that the loader is compared with: libjpeg-turbo in threads, and nvJPEG on the GPU.

In: encoded films in RAM.
Out: endless generators of the number of images in each batch.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
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


def find_nvjpeg(device: str) -> tuple[Decoder | None, str]:
    """Return a function that decodes JPEG on the GPU and the module that has it; or None and why there is none."""
    if device != "cuda":
        return None, "not available on the CPU"
    film, reasons = simplejpeg.encode_jpeg(np.zeros((16, 16, 1), np.uint8), colorspace="GRAY"), []
    for module in ("torchcodec.decoders", "torchvision.io"):  # torchcodec has it since 0.16
        try:
            decode_jpeg = import_module(module).decode_jpeg
            _decode(decode_jpeg, [film])
        except Exception as error:  # missing, older, built for another torch or without nvJPEG, other arguments
            reasons.append(f"{module}: {error!r}")
        else:
            return decode_jpeg, module
    return None, "; ".join(reasons)


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
