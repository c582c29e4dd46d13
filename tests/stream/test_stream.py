import gc
import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sample_sets import age_of, write_set
from tests.threads import assert_threads_end
from wds_bone import Batch, BoneAgeStream
from wds_bone.errors import CheckpointError, ConfigError

NUM_SAMPLES = 40


def stream_of(shards: Path, **settings: object) -> BoneAgeStream:
    return BoneAgeStream(shards, split="train", **{"batch_size": 8, "seed": 3, "threads": 2} | settings)  # type: ignore[arg-type]


def keys_of(batches: "islice[Batch] | BoneAgeStream") -> list[str]:
    return [key for batch in batches for key in batch.key if key]


def test_labels_stay_with_their_images(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream:
        for batch in stream:
            numbers = [int(key.removeprefix("hand-")) for key in batch.key]
            assert batch.age_months.tolist() == [age_of(number) for number in numbers]
            assert batch.image[:, 0, 8, 8].tolist() == batch.age_months.tolist()
            assert batch.gender.tolist() == [number % 2 for number in numbers]
            assert (batch.image[:, 0, 0, 0] > 100).tolist() == [bool(number % 2) for number in numbers]


def test_a_batch_has_the_documented_shapes_and_types(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream:
        batch = next(iter(stream))
    assert (batch.image.shape, batch.image.dtype) == ((8, 1, 16, 16), torch.uint8)
    assert {batch.gender.dtype, batch.age_months.dtype, batch.weight.dtype} == {torch.float32}
    assert batch.position.tolist() == list(range(8))


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
def test_every_encoding_delivers_the_images_that_were_stored(tmp_path: Path, encoding: str) -> None:
    shards = write_set(tmp_path, encoding=encoding, train=[12])
    with stream_of(shards) as stream:
        for batch in stream:
            error = batch.image[:, 0, 8, 8].float() - batch.age_months
            assert error.abs().max() <= (2 if encoding == "jpg" else 0)


def test_each_epoch_delivers_every_sample_once_in_a_new_order(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream:
        epochs = [keys_of(stream) for _ in range(3)]
    assert all(Counter(keys) == Counter(f"hand-{n}" for n in range(NUM_SAMPLES)) for keys in epochs)
    assert len({tuple(keys) for keys in epochs}) == 3


@pytest.mark.fault("F4", "G1")
@given(
    threads=st.integers(1, 5),
    world_size=st.sampled_from([1, 2, 4, 8]),
    shuffle=st.fixed_dictionaries({"shuffle_buffer": st.none() | st.integers(1, 60)})
    | st.fixed_dictionaries({"shuffle_windows": st.integers(1, 4)}),
)
def test_threads_and_ranks_do_not_change_the_global_batches(
    tiny_shards: Path, threads: int, world_size: int, shuffle: dict[str, object]
) -> None:
    with stream_of(tiny_shards, threads=1, **shuffle) as alone:
        expected = [batch.key for batch in islice(alone.endless(), 7)]
    ranks = [
        stream_of(tiny_shards, threads=threads, rank=rank, world_size=world_size, **shuffle)
        for rank in range(world_size)
    ]
    loops = [islice(rank.endless(), 7) for rank in ranks]
    assert [[key for part in parts for key in part.key] for parts in zip(*loops, strict=True)] == expected


@pytest.mark.parametrize("batch_size", [3, 8, 39, 40, 64])
def test_the_last_batch_of_an_epoch_is_padded_with_zeros_of_weight_0(tiny_shards: Path, batch_size: int) -> None:
    with stream_of(tiny_shards, batch_size=batch_size) as stream:
        batches = list(stream)
    assert len(batches) == -(-NUM_SAMPLES // batch_size)
    assert all(len(batch.image) == batch_size for batch in batches)
    assert sum(float(batch.weight.sum()) for batch in batches) == NUM_SAMPLES
    padding = batches[-1].weight == 0
    assert not batches[-1].image[padding].any()
    assert not batches[-1].age_months[padding].any()
    assert [key == "" for key in batches[-1].key] == padding.tolist()


@pytest.mark.fault("F4")
@pytest.mark.parametrize("windows", [None, 2])
def test_resuming_at_any_position_gives_the_remaining_batches(tiny_shards: Path, windows: int | None) -> None:
    with stream_of(tiny_shards, shuffle_windows=windows) as stream:
        loop = stream.endless()
        states = [stream.state_dict()]
        keys = []
        for batch in islice(loop, 12):
            keys.append(batch.key)
            states.append(stream.state_dict())
    for taken, state in enumerate(states):
        with stream_of(tiny_shards, threads=1, shuffle_windows=windows) as resumed:
            resumed.load_state_dict(state)
            assert [batch.key for batch in islice(resumed.endless(), 12 - taken)] == keys[taken:]


def test_the_position_counts_delivered_samples_not_prefetched_ones(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream:
        for count, _ in enumerate(stream, start=1):
            assert stream.position == stream.state_dict()["position"] == 8 * count


def test_random_access_gives_the_same_batches_as_iteration(tiny_shards: Path) -> None:
    with stream_of(tiny_shards, batch_size=9) as stream:
        stream.set_epoch(2)
        by_index = [stream[i] for i in range(len(stream))]
        last = stream[-1].key
        by_loop = list(stream)
    assert [batch.key for batch in by_index] == [batch.key for batch in by_loop]
    assert all(torch.equal(a.image, b.image) for a, b in zip(by_index, by_loop, strict=True))
    assert last == by_loop[-1].key
    with pytest.raises(IndexError), stream_of(tiny_shards) as stream:
        stream[len(stream)]


def test_without_shuffling_the_order_is_that_of_the_shards(tiny_shards: Path) -> None:
    with stream_of(tiny_shards, shuffle=False) as stream:
        assert keys_of(stream) == keys_of(stream) == [f"hand-{n}" for n in range(NUM_SAMPLES)]


def test_another_split_in_the_same_folder_changes_nothing(tmp_path: Path) -> None:
    alone = write_set(tmp_path / "alone", train=[9, 8])
    with_val = write_set(tmp_path / "with-val", train=[9, 8], val=[5])
    with stream_of(alone) as one, stream_of(with_val) as other:
        assert one.order_digest == other.order_digest
        assert keys_of(one) == keys_of(other)


@pytest.mark.fault("F4")
@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"seed": 4}, "seed"),
        ({"shuffle_buffer": 5}, "shuffle_buffer"),
        ({"shuffle_windows": 2}, "shuffle_windows"),
        ({"shuffle": False}, "seed"),
    ],
)
def test_a_state_of_another_order_is_refused_with_both_values(
    tiny_shards: Path, changed: dict[str, object], field: str
) -> None:
    with (
        stream_of(tiny_shards) as stream,
        stream_of(tiny_shards, **changed) as other,
        pytest.raises(CheckpointError, match=rf"{field} differs\n  expected: .*\(saved\)\n  got: .*\(now\)"),
    ):
        other.load_state_dict(stream.state_dict())


@pytest.mark.fault("F4")
def test_a_state_of_other_windows_is_refused_with_both_values(tiny_shards: Path) -> None:
    with (
        stream_of(tiny_shards, shuffle_windows=1) as stream,
        stream_of(tiny_shards, shuffle_windows=2) as other,
        pytest.raises(CheckpointError, match=r"(?s)shuffle_windows differs.*1 \(saved\).*2 \(now\)"),
    ):
        other.load_state_dict(stream.state_dict())


def test_a_state_that_was_saved_before_there_were_windows_is_one_of_the_whole_epoch(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream, stream_of(tiny_shards, shuffle_windows=2) as windowed:
        stream.set_epoch(2)
        old = {name: value for name, value in stream.state_dict().items() if name != "shuffle_windows"}
        stream.set_epoch(0)
        stream.load_state_dict(old)
        assert stream.position == 2 * NUM_SAMPLES
        with pytest.raises(CheckpointError, match="shuffle_windows differs"):
            windowed.load_state_dict(old)


def test_an_epoch_in_windows_reads_one_shard_after_another(tiny_shards: Path) -> None:
    with stream_of(tiny_shards, shuffle_windows=1) as stream:
        numbers = [int(key.removeprefix("hand-")) for key in keys_of(stream)]
    shards = np.searchsorted([17, 20], numbers, side="right")
    assert sorted(numbers) == list(range(NUM_SAMPLES))
    assert np.count_nonzero(np.diff(shards)) == 2
    assert numbers != sorted(numbers)


@pytest.mark.fault("F4")
def test_a_state_of_other_shards_is_refused(tiny_shards: Path, tmp_path: Path) -> None:
    other_shards = write_set(tmp_path, train=[17, 3, 19])
    with (
        stream_of(tiny_shards) as stream,
        stream_of(other_shards) as other,
        pytest.raises(CheckpointError, match="order_digest differs"),
    ):
        other.load_state_dict(stream.state_dict())


@pytest.mark.parametrize("position", [-1, 1.5, "3", None, True, 2**62])
def test_a_state_without_a_position_is_refused(tiny_shards: Path, position: object) -> None:
    with stream_of(tiny_shards) as stream, pytest.raises(CheckpointError, match="no valid position"):
        stream.load_state_dict(stream.state_dict() | {"position": position})


@pytest.mark.fault("D8")
def test_an_abandoned_loop_leaves_no_thread_behind(tiny_shards: Path) -> None:
    before = threading.active_count()
    with stream_of(tiny_shards) as stream:
        loop = stream.endless()
        next(loop)
        assert threading.active_count() > before
        del loop
        assert_threads_end(before)


def test_close_stops_the_threads_and_a_loop_that_continues_raises_an_error(tiny_shards: Path) -> None:
    before, stream = threading.active_count(), stream_of(tiny_shards)
    loop = iter(stream)
    next(loop)
    stream.close()
    assert_threads_end(before)
    with pytest.raises(ConfigError, match="the stream is closed"):
        next(loop)


@pytest.mark.parametrize("leave", [lambda stream: stream.set_epoch(3), lambda stream: stream.close()])
def test_a_stream_may_be_moved_or_closed_in_the_last_round_of_a_loop(
    leave: Callable[[BoneAgeStream], None], tiny_shards: Path
) -> None:
    with stream_of(tiny_shards) as stream:
        for number, _ in enumerate(stream, 1):
            if number == len(stream):
                leave(stream)
    assert number == len(stream)


@pytest.mark.fault("D8")
def test_a_stream_is_refused_in_a_loader_worker(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream:
        for context, error in (("fork", RuntimeError), ("spawn", ConfigError)):
            loader = torch.utils.data.DataLoader(
                stream, batch_size=None, num_workers=1, multiprocessing_context=context
            )
            with pytest.raises(error, match=r"(?s)cannot be used in a DataLoader worker.*do: .*num_workers=0"):
                next(iter(loader))


def test_a_loader_that_would_make_batches_of_batches_is_refused(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream:
        for settings in ({}, {"batch_size": 4}, {"batch_size": 2, "drop_last": True}):
            with pytest.raises(ConfigError, match=r"(?s)batches already.*do: .*batch_size=None, num_workers=0"):
                next(iter(torch.utils.data.DataLoader(stream, **settings)))
        with pytest.raises(ValueError, match="shuffle"):
            torch.utils.data.DataLoader(stream, batch_size=None, shuffle=True)


def test_a_loader_without_batches_and_workers_is_the_stream(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream, stream_of(tiny_shards) as alone:
        loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=0)
        assert len(loader) == len(stream)
        for _ in range(2):
            assert keys_of(loader) == keys_of(alone)


@pytest.mark.fault("D8")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_stream_is_refused_after_a_fork(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream:
        child = os.fork()
        if child == 0:
            try:
                next(iter(stream))
            except ConfigError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size 0 is out of range"),
        ({"threads": 0}, "threads 0 is out of range"),
        ({"threads": 100_000}, "threads 100000 is more than this machine can use.*at most"),
        ({"shuffle_buffer": 0}, "shuffle_buffer 0 is out of range"),
        ({"shuffle_buffer": 5, "shuffle": False}, "shuffle_buffer=5 has no effect"),
        ({"shuffle_windows": 0}, "shuffle_windows 0 is out of range"),
        ({"shuffle_windows": 5, "shuffle": False}, "shuffle_windows=5 has no effect"),
        ({"shuffle_windows": 5, "shuffle_buffer": 5}, "shuffle_buffer=5 and shuffle_windows=5 contradict each other"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2"),
        ({"batch_size": 10, "world_size": 4}, "batch_size 10 cannot be divided.*8 or 12"),
        ({"seed": None}, "seed None is not a whole number.*seed=0; shuffle=False"),
        ({"seed": 1.5}, "seed 1.5 is not a whole number.*got: +float"),
        ({"seed": True}, "seed True is not a whole number"),
        ({"batch_size": "8"}, "batch_size '8' is not a whole number"),
        ({"batch_size": None}, "batch_size None is not a whole number"),
        ({"rank": np.bool_(False)}, "rank .* is not a whole number"),
        ({"threads": 2.0}, "threads 2.0 is not a whole number"),
        ({"device": "gpu"}, "device 'gpu' is unknown to torch.*do:"),
        ({"device": None}, "device None is unknown to torch"),
    ],
)
def test_contradictory_settings_are_refused(tiny_shards: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        stream_of(tiny_shards, **settings)


def test_integers_of_numpy_and_torch_are_integers(tiny_shards: Path) -> None:
    numbers = {"batch_size": np.int64(8), "seed": np.uint8(3), "shuffle_buffer": np.int32(7), "threads": np.int16(1)}
    ranks = {"rank": np.int64(1), "world_size": torch.tensor(2)}
    plain = {"shuffle_buffer": 7, "rank": 1, "world_size": 2}
    with stream_of(tiny_shards, **numbers, **ranks) as stream, stream_of(tiny_shards, **plain) as same:
        for moved, epoch in ((stream, np.int64(2)), (same, 2)):
            moved.set_epoch(epoch)  # type: ignore[arg-type]
        assert stream[np.int64(3)].key == same[3].key  # type: ignore[index]
        assert keys_of(stream) == keys_of(same)
        assert json.loads(json.dumps(stream.state_dict())) == same.state_dict()


@pytest.mark.parametrize("index", [True, 1.0, "1", None, slice(0, 2)])
def test_only_whole_numbers_are_indices_and_epochs(tiny_shards: Path, index: Any) -> None:
    with stream_of(tiny_shards) as stream:
        with pytest.raises(ConfigError, match=r"batch .* is not a whole number"):
            stream[index]
        with pytest.raises(ConfigError, match=r"epoch .* is not a whole number"):
            stream.set_epoch(index)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.fault("E2")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_a_device_that_is_missing_is_an_error_before_anything_is_read(device: object) -> None:
    with pytest.raises(ConfigError, match=r"(?s)device 'cuda.*': no CUDA device is available.*or use device='cpu'"):
        BoneAgeStream("nowhere/train.tar", device=device)  # type: ignore[arg-type]


def test_labels_are_known_before_the_first_batch(tiny_shards: Path) -> None:
    with stream_of(tiny_shards) as stream:
        assert stream.num_samples == NUM_SAMPLES
        assert stream.ages_months.tolist() == [age_of(number) for number in range(NUM_SAMPLES)]
        assert stream.genders.tolist() == [number % 2 for number in range(NUM_SAMPLES)]
        assert (stream.image_format.height, stream.image_format.width) == (16, 16)


@pytest.mark.fault("E4")
def test_a_set_may_consist_of_one_sample(tmp_path: Path) -> None:
    with stream_of(write_set(tmp_path, train=[1])) as stream:
        assert [np.flatnonzero(batch.weight).tolist() for batch in stream] == [[0]]
        assert next(stream.endless()).key == ["hand-0"] * 8


@pytest.mark.fault("E4")
@settings(max_examples=12)
@given(num_samples=st.integers(1, 7), batch_size=st.integers(1, 20), step=st.sampled_from([1, 2]))
def test_few_samples_of_any_gender_make_whole_epochs(
    tmp_path_factory: pytest.TempPathFactory, num_samples: int, batch_size: int, step: int
) -> None:
    """With step 2, all samples are girls."""
    shards = write_set(tmp_path_factory.mktemp("few"), train=[num_samples])

    def keep(table: Any) -> Any:
        return np.arange(len(table)) % step == 0

    with stream_of(shards, batch_size=batch_size, keep=keep) as stream:
        expected = [f"hand-{number}" for number in range(0, num_samples, step)]
        assert [sorted(keys_of(stream)) for _ in range(2)] == [expected, expected]
        assert all(len(batch.key) == batch_size for batch in islice(stream.endless(), 3))


@pytest.mark.parametrize("epoch", [-1, 2**62])
def test_an_epoch_that_is_out_of_range_is_refused(tiny_shards: Path, epoch: int) -> None:
    with stream_of(tiny_shards) as stream, pytest.raises(ConfigError, match=f"epoch {epoch}"):
        stream.set_epoch(epoch)


def test_iteration_moves_batches_to_any_device(tiny_shards: Path) -> None:
    with stream_of(tiny_shards, device="meta") as stream:
        assert {batch.image.device.type for batch in stream} == {"meta"}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count open files")
def test_a_discarded_stream_leaves_no_file_open(tmp_path: Path) -> None:
    shards = write_set(tmp_path, train=[2] * 70)
    before = len(list(Path("/proc/self/fd").iterdir()))
    stream = stream_of(shards)
    assert len(keys_of(stream)) == 140
    del stream
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
