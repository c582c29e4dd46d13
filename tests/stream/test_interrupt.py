"""Ctrl-C in a loop over a stream is never swallowed, at whatever moment it arrives."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOOPS = """
import sys
from wds_bone import BoneAgeStream

def open_stream():
    return BoneAgeStream(sys.argv[1], split="train", batch_size=8, threads=2)

def short_epochs():
    for batch in stream:
        pass

def peeks():
    for batch in stream:
        break

def steps():
    for number, batch in enumerate(stream.endless()):
        if number == 7:
            break

def discarded_streams():
    for batch in open_stream():
        pass

def all_kinds():
    for loop in (short_epochs, peeks, steps, discarded_streams):
        loop()

sys.unraisablehook = lambda lost: print("lost in", lost.object, flush=True)
stream = open_stream()
print("ready", flush=True)
while True:  # twice, because Ctrl-C may arrive while the other is being reported
    try:
        while True:
            try:
                while True:
                    globals()[sys.argv[2]]()
            except KeyboardInterrupt:
                print("raised", flush=True)
    except KeyboardInterrupt:
        print("raised", flush=True)
"""
KINDS = ["short_epochs", "peeks", "steps", "discarded_streams"]


def answers(shards: Path, kind: str, *, num_signals: int) -> list[str]:
    """Return what the process says after each signal."""
    command = [sys.executable, "-c", LOOPS, str(shards), kind]
    moments, said = random.Random(kind), list[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for _ in range(num_signals):
                time.sleep(moments.uniform(0.001, 0.03))
                process.send_signal(signal.SIGINT)
                said.append(process.stdout.readline().strip())
        finally:
            process.kill()
    return said


@pytest.mark.slow
def test_ctrl_c_at_random_moments_is_always_raised(tiny_shards: Path) -> None:
    assert answers(tiny_shards, "all_kinds", num_signals=30) == ["raised"] * 30


@pytest.mark.stress
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_at_very_many_random_moments_is_always_raised(kind: str, tiny_shards: Path) -> None:
    assert answers(tiny_shards, kind, num_signals=200) == ["raised"] * 200
