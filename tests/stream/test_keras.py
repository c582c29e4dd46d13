from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.sample_sets import age_of, write_set

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:keras")


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Yield a dataset of 10 samples in batches of 4."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("keras", reason="the extra `keras` is not installed")
    from wds_bone.stream.keras import KerasBoneAge
    from wds_bone.stream.stream import BoneAgeStream

    with BoneAgeStream(write_set(tmp_path, train=[10]), batch_size=4, threads=1) as stream:
        yield KerasBoneAge(stream)


def ages_of(batches: list) -> list[float]:  # type: ignore[type-arg]
    return [float(age) for _, ages in batches for age in ages[:, 0]]


def test_len_is_the_number_of_batches_and_the_last_one_is_short(dataset) -> None:  # type: ignore[no-untyped-def]
    assert len(dataset) == 3
    assert [len(dataset[i][1]) for i in range(3)] == [4, 4, 2]
    assert sorted(ages_of([dataset[i] for i in range(3)])) == sorted(float(age_of(n)) for n in range(10))


def test_a_batch_consists_of_images_genders_and_ages(dataset) -> None:  # type: ignore[no-untyped-def]
    (image, gender), age = dataset[0]
    assert (image.shape, image.dtype) == ((4, 16, 16, 1), np.float32)
    assert np.allclose(image[:, 8, 8, 0] * 255, age[:, 0])
    assert set(gender.ravel()) <= {0.0, 1.0}
    assert image.min() >= 0
    assert image.max() <= 1


def test_the_order_changes_at_the_end_of_an_epoch(dataset) -> None:  # type: ignore[no-untyped-def]
    first = ages_of([dataset[i] for i in range(3)])
    dataset.on_epoch_end()
    second = ages_of([dataset[i] for i in range(3)])
    assert first != second
    assert sorted(first) == sorted(second)


def test_next_continues_from_epoch_to_epoch(dataset) -> None:  # type: ignore[no-untyped-def]
    epochs = [ages_of([next(dataset) for _ in range(3)]) for _ in range(3)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.slow
def test_a_small_keras_model_learns_from_the_dataset(dataset) -> None:  # type: ignore[no-untyped-def]
    import keras

    keras.utils.set_random_seed(0)
    image, gender = keras.Input((16, 16, 1)), keras.Input((1,))
    pixels = keras.layers.GlobalAveragePooling2D()(image)
    hidden = keras.layers.Dense(16, activation="relu")(keras.layers.Concatenate()([pixels, gender]))
    model = keras.Model([image, gender], keras.layers.Dense(1)(hidden))
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="mae")
    history = model.fit(dataset, epochs=60, verbose=0).history["loss"]
    assert history[-1] < history[0] / 4
