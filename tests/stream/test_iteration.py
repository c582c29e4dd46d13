"""Where a loop begins, what ends it, and what is left of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.sample_sets import write_set
from wds_bone import Batch, BoneAgeStream
from wds_bone.errors import ConfigError

NUM_SAMPLES, ROWS = 40, 16  # three batches, the last one half full


@pytest.fixture
def stream(tiny_shards: Path) -> Iterator[BoneAgeStream]:
    with open_stream(tiny_shards) as stream:
        yield stream


def open_stream(shards: Path, **settings: Any) -> BoneAgeStream:
    return BoneAgeStream(shards, split="train", **{"batch_size": ROWS, "seed": 3, "threads": 1} | settings)


def keys_of(batches: Any) -> list[str]:
    return [key for batch in batches for key in batch.key if key]


def epoch_keys(stream: BoneAgeStream, epoch: int) -> list[str]:
    """Return the keys of an epoch in its order, without moving the stream."""
    positions = np.arange(epoch * NUM_SAMPLES, (epoch + 1) * NUM_SAMPLES)
    return stream._selection.keys(stream._order.sample_at(positions))


@pytest.mark.parametrize("num_batches", [1, 2])
def test_a_loop_that_was_not_finished_costs_the_next_one_nothing(stream: BoneAgeStream, num_batches: int) -> None:
    for epoch in range(2):
        assert keys_of(islice(stream, num_batches)) == epoch_keys(stream, epoch)[: num_batches * ROWS]
        assert keys_of(stream) == epoch_keys(stream, epoch)


def test_an_epoch_is_finished_once_its_last_batch_is_handed_out(stream: BoneAgeStream) -> None:
    assert len(list(islice(stream, 3))) == 3  # does not ask for a fourth
    assert keys_of(stream) == epoch_keys(stream, 1)


def test_a_loop_continues_once_where_a_state_was_loaded(stream: BoneAgeStream) -> None:
    next(iter(stream))
    state = json.loads(json.dumps(stream.state_dict()))
    stream.load_state_dict(state)
    assert keys_of(stream) == epoch_keys(stream, 0)[ROWS:]
    assert keys_of(stream) == epoch_keys(stream, 1)


def test_a_peek_after_loading_uses_up_the_state(stream: BoneAgeStream) -> None:
    next(iter(stream))
    stream.load_state_dict(stream.state_dict())
    assert keys_of([next(iter(stream))]) == epoch_keys(stream, 0)[ROWS : 2 * ROWS]
    assert keys_of(stream) == epoch_keys(stream, 0)


def test_asking_for_an_iterator_and_random_access_do_not_use_up_the_state(stream: BoneAgeStream) -> None:
    next(iter(stream))
    stream.load_state_dict(stream.state_dict())
    iter(stream)
    stream[0]
    len(stream)
    stream.state_dict()
    assert keys_of(stream) == epoch_keys(stream, 0)[ROWS:]


def test_a_state_that_was_saved_after_the_last_batch_starts_the_next_epoch(stream: BoneAgeStream) -> None:
    states = [stream.state_dict() for _ in stream]
    stream.load_state_dict(states[-1])
    assert keys_of(stream) == epoch_keys(stream, 1)


def test_set_epoch_and_a_new_state_end_a_loop_that_is_running(stream: BoneAgeStream) -> None:
    for move in (lambda: stream.set_epoch(5), lambda: stream.load_state_dict(stream.state_dict())):
        loop = iter(stream)
        next(loop)
        move()
        with pytest.raises(ConfigError, match="moved this stream during the loop"):
            next(loop)
    stream.set_epoch(5)
    assert keys_of(stream) == epoch_keys(stream, 5)


def test_a_nested_loop_ends_the_outer_one_with_an_error(stream: BoneAgeStream) -> None:
    with pytest.raises(ConfigError, match=r"(?s)another loop.*open a second stream"):
        [keys_of(stream) for _ in stream]


def test_an_exception_in_the_body_leaves_the_position_of_the_batch_it_was_in(stream: BoneAgeStream) -> None:
    with pytest.raises(ZeroDivisionError):
        [1 / 0 for _ in stream]
    assert stream.position == ROWS
    assert keys_of(stream) == epoch_keys(stream, 0)


def test_endless_continues_at_the_position(stream: BoneAgeStream) -> None:
    keys = epoch_keys(stream, 0) + epoch_keys(stream, 1)
    assert keys_of(islice(stream.endless(), 2)) == keys[: 2 * ROWS]
    assert keys_of(islice(stream.endless(), 2)) == keys[2 * ROWS : 4 * ROWS]
    assert keys_of(stream) == epoch_keys(stream, 1)


def test_streams_that_are_zipped_stay_in_step(tiny_shards: Path) -> None:
    """`zip` does not ask the second stream whether it has ended, and takes one batch too many of the first."""
    with open_stream(tiny_shards) as first, open_stream(tiny_shards) as second, open_stream(tiny_shards) as val:
        for epoch in range(3):
            for one, two in zip(first, second, strict=False):
                assert one.key == two.key
                assert set(one.key) <= {"", *epoch_keys(first, epoch)}
        first.set_epoch(0)
        for _ in range(2):
            pairs = list(zip(first, islice(val, 1), strict=False))
            assert keys_of(one for one, _ in pairs) == epoch_keys(first, 0)[:ROWS]


@pytest.mark.fault("G1")
def test_a_peek_on_one_rank_does_not_desynchronize_the_ranks(tiny_shards: Path) -> None:
    ranks = [open_stream(tiny_shards, rank=rank, world_size=2) for rank in range(2)]
    next(iter(ranks[0]))
    for epoch in range(2):
        parts = list(zip(*map(list, ranks), strict=True))
        assert keys_of(part for pair in parts for part in pair) == epoch_keys(ranks[0], epoch)


@dataclass
class Loop:
    """A loop in the model: where it is, and the move of the stream that it belongs to."""

    batches: Iterator[Batch]
    is_endless: bool
    position: int | None = None
    end: int | None = None
    move: int = 0


class IterationModel(RuleBasedStateMachine):
    """The model is a position, whether a state was just loaded, and the number of moves."""

    shards: Path

    @initialize(rows=st.sampled_from([1, 7, 16, 40, 64]))
    def open(self, rows: int) -> None:
        self.stream, self.rows = open_stream(self.shards, batch_size=rows), rows
        self.position, self.loaded, self.move = 0, False, 0
        self.loops: list[Loop] = []

    @rule(is_endless=st.booleans())
    def start(self, is_endless: bool) -> None:
        loop = self.stream.endless() if is_endless else iter(self.stream)
        self.loops.append(Loop(loop, is_endless))

    @rule(which=st.integers(0, 9), count=st.integers(1, 7))
    def advance(self, which: int, count: int) -> None:
        for _ in range(count):
            if self.loops:
                self.take_one(self.loops[which % len(self.loops)])

    @rule(which=st.integers(0, 9))
    def drop(self, which: int) -> None:
        if self.loops:
            self.loops.pop(which % len(self.loops))

    @rule()
    def finish(self) -> None:
        loop = Loop(iter(self.stream), is_endless=False)
        self.loops.append(loop)
        while loop in self.loops:
            self.take_one(loop)

    @rule(epoch=st.integers(0, 3))
    def set_epoch(self, epoch: int) -> None:
        self.stream.set_epoch(epoch)
        self.position, self.loaded, self.move = epoch * NUM_SAMPLES, False, self.move + 1

    @rule(position=st.integers(0, 3 * NUM_SAMPLES))
    def load(self, position: int) -> None:
        self.stream.load_state_dict(self.stream.state_dict() | {"position": position})
        self.position, self.loaded, self.move = position, True, self.move + 1

    @rule(index=st.integers(0, 100))
    def look(self, index: int) -> None:
        start = index % len(self.stream) * self.rows
        epoch = self.position // NUM_SAMPLES
        assert keys_of([self.stream[index % len(self.stream)]]) == epoch_keys(self.stream, epoch)[start:][: self.rows]

    def take_one(self, loop: Loop) -> None:
        if loop.position is None:
            self.begin(loop)
        if loop.position == loop.end:
            assert next(loop.batches, None) is None
            self.loops.remove(loop)
        elif loop.move != self.move:
            with pytest.raises(ConfigError, match="moved"):
                next(loop.batches)
            self.loops.remove(loop)
        else:
            assert loop.position is not None
            stop = loop.position + self.rows
            stop = stop if loop.end is None else min(stop, loop.end)
            samples = self.stream._order.sample_at(np.arange(loop.position, stop))
            assert keys_of([next(loop.batches)]) == self.stream._selection.keys(samples)
            loop.position = self.position = stop
        assert self.stream.state_dict()["position"] == self.position

    def begin(self, loop: Loop) -> None:
        epoch_start = self.position // NUM_SAMPLES * NUM_SAMPLES
        loop.position = self.position if loop.is_endless or self.loaded else epoch_start
        if not loop.is_endless:
            loop.end = loop.position // NUM_SAMPLES * NUM_SAMPLES + NUM_SAMPLES
        self.position, self.loaded, self.move = loop.position, False, self.move + 1
        loop.move = self.move

    def teardown(self) -> None:
        if hasattr(self, "stream"):
            self.stream.close()


def test_any_sequence_of_moves_follows_the_model(tmp_path: Path) -> None:
    IterationModel.shards = write_set(tmp_path, train=[17, 3, 20])
    case = IterationModel.TestCase()
    case.settings = settings(max_examples=20, stateful_step_count=12)
    case.runTest()
