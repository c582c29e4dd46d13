import _thread
import gc
import os
import signal
import sys
from pathlib import Path
from queue import SimpleQueue

import pytest

from wds_bone.storage import finalizer
from wds_bone.storage.finalizer import call_when_gone

PACKAGE = Path(finalizer.__file__).parent.parent


class Owner:
    pass


def test_the_function_is_called_once_when_the_owner_is_gone_and_nothing_is_kept() -> None:
    kept, calls, owner = len(finalizer._references), list[str](), Owner()
    call_when_gone(owner, calls.append, "first")
    call_when_gone(owner, calls.append, "second")
    gc.collect()
    assert calls == []
    del owner
    assert calls == ["second", "first"]
    assert len(finalizer._references) == kept


def test_an_owner_in_a_cycle_is_gone_when_it_is_collected() -> None:
    queue, owner = SimpleQueue[int](), Owner()
    owner.itself = owner  # type: ignore[attr-defined]
    call_when_gone(owner, queue.put, 7)
    del owner
    gc.collect()
    assert queue.get_nowait() == 7


def test_a_signal_that_arrives_in_the_function_is_raised_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable = list[object]()
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    owner = Owner()
    call_when_gone(owner, _thread.interrupt_main, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        del owner
        for _ in range(10):  # Python looks for signals here
            len("")
    assert unraisable == []


def test_a_descriptor_is_closed_with_its_owner() -> None:
    reading, writing = os.pipe()
    owner = Owner()
    call_when_gone(owner, os.close, writing)
    del owner
    assert os.read(reading, 1) == b""  # the end, because nobody can write any more
    os.close(reading)


@pytest.mark.parametrize("room", ["storage", "stream"])
def test_the_rooms_that_a_loop_runs_through_have_no_python_code_in_finalizers(room: str) -> None:
    sources = {path.name: path.read_text() for path in (PACKAGE / room).glob("*.py") if path.name != "finalizer.py"}
    for word in ("__del__", "weakref.finalize", "WeakSet", "WeakValueDictionary", "WeakKeyDictionary"):
        assert [name for name, source in sources.items() if word in source] == []
