"""Stream sets over a network, and compare what arrives with what the local files contain."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from wds_bone import BoneAgeStream
from wds_bone.errors import WdsBoneError
from wds_bone.objects.protocol import Transfer

CANARIES = ("canary-user", "canary-password", "canary-signature")
HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"
Row = tuple[str, bytes, float, float, float, int]


def with_secrets(url: str) -> str:
    """Return a URL of a prefix with a user name, a password and a signature, which no message may show."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{CANARIES[0]}:{CANARIES[1]}@{rest}?signature={CANARIES[2]}"


def rows_of(stream: BoneAgeStream) -> list[Row]:
    """Return all that an epoch delivers, sample by sample."""
    return [
        (key, image.numpy().tobytes(), float(gender), float(age), float(weight), int(position))
        for batch in stream
        for key, image, gender, age, weight, position in zip(
            batch.key, batch.image, batch.gender, batch.age_months, batch.weight, batch.position, strict=True
        )
    ]


def epoch_of(shards: Path | str, **options: Any) -> tuple[list[Row], Transfer]:
    """Return all that the first epoch of the training samples delivers, and what was transferred for it."""
    with BoneAgeStream(shards, **{"split": "train", "batch_size": 8, "threads": 2, "seed": 7, **options}) as stream:
        return rows_of(stream), stream.transfer()


def error_of(shards: str, **options: Any) -> str:
    """Return the message of the error that ends an epoch; no secret may occur in it, nor in its traceback."""
    with pytest.raises(WdsBoneError) as caught:
        epoch_of(shards, **options)
    shown = "".join(traceback.format_exception(caught.value))
    assert not [canary for canary in CANARIES if canary in shown], shown
    return str(caught.value)
