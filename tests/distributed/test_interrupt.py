"""Test how signals are received."""

import os
import signal
import subprocess
import sys

import pytest

from wds_bone.distributed.interrupt import Interruption


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_is_recorded_and_determines_the_exit_code(number: int, exit_code: int):
    with Interruption() as interruption:
        assert interruption.exit_code == 0
        os.kill(os.getpid(), number)
        assert interruption.signal_number == number
        assert interruption.exit_code == exit_code


def test_the_previous_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_second_signal_ends_the_process_immediately():
    program = (
        "import os, signal\n"
        "from wds_bone.distributed.interrupt import Interruption\n"
        "with Interruption():\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('first', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print('second', flush=True)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == -signal.SIGTERM
    assert result.stdout == "first\n"


def test_a_signal_that_a_launcher_forwards_does_not_count_as_the_second_one():
    with Interruption(ignore_repeats_seconds=60.0) as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.exit_code == 130
