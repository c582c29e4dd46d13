"""Test how signals are answered."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from wds_bone.interrupt import SIGNALS, Interrupted, Interruption

EXIT_CODES = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)]


def run_program(program: str) -> "subprocess.CompletedProcess[str]":
    header = "import os, signal\nfrom wds_bone import interrupt\nfrom wds_bone.interrupt import Interruption\n"
    command = [sys.executable, "-c", header + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.fault("E3", "E8")
@pytest.mark.parametrize(("number", "exit_code"), EXIT_CODES)
def test_the_first_signal_raises_an_exception_with_its_exit_code(number: int, exit_code: int):
    with pytest.raises(Interrupted, match=signal.Signals(number).name) as interrupted, Interruption():
        os.kill(os.getpid(), number)
    assert interrupted.value.exit_code == exit_code


@pytest.mark.fault("E3", "E8")
@pytest.mark.parametrize(("number", "exit_code"), EXIT_CODES)
def test_a_deferred_signal_is_recorded_and_determines_the_exit_code(number: int, exit_code: int):
    with Interruption() as interruption:
        with interruption.deferred():
            assert interruption.exit_code == 0
            interruption.check()
            os.kill(os.getpid(), number)
            assert interruption.signal_number == number
            assert interruption.exit_code == exit_code
        with pytest.raises(Interrupted):
            interruption.check()


def test_the_previous_handlers_are_restored():
    before = [signal.getsignal(number) for number in SIGNALS], sys.unraisablehook
    with Interruption():
        assert not set(before[0]) & {signal.getsignal(number) for number in SIGNALS}
    assert ([signal.getsignal(number) for number in SIGNALS], sys.unraisablehook) == before


@pytest.mark.fault("E8")
def test_a_hangup_that_is_ignored_stays_ignored():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not interruption.is_requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(10)
    assert seen == [before]


@pytest.mark.fault("E3")
def test_the_second_signal_ends_the_process_immediately():
    result = run_program(
        "with Interruption() as interruption, interruption.deferred():\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('first', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print('second', flush=True)\n"
    )
    assert result.returncode == -signal.SIGTERM
    assert result.stdout == "first\n"


def test_a_signal_that_a_launcher_forwards_does_not_count_as_the_second_one():
    with Interruption(ignore_repeats_seconds=60.0) as interruption, interruption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.exit_code == 130


@pytest.mark.fault("E3")
def test_an_exception_that_a_destructor_swallows_is_raised_again():
    result = run_program(
        "class Swallower:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "with Interruption():\n"
        "    try:\n"
        "        Swallower()\n"
        "        print('swallowed', flush=True)\n"
        "        signal.sigtimedwait([signal.SIGALRM], 50)\n"
        "    except interrupt.Interrupted:\n"
        "        print('raised again')\n"
    )
    assert (result.stdout, result.stderr) == ("swallowed\nraised again\n", "")


@pytest.mark.fault("E3")
def test_a_process_that_takes_too_long_to_stop_is_ended_with_a_sentence():
    result = run_program(
        "interrupt.GRACE_SECONDS = 0.2\n"
        "with Interruption():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally:\n"
        "        signal.sigtimedwait([signal.SIGALRM], 50)\n"
    )
    assert result.returncode == 143
    assert result.stderr == "stopped by SIGTERM\n"
