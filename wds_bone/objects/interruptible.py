"""Run a call that does not return to Python for a long time, so that the main thread can still receive signals.

In: a function.
Out: what it returns or raises.
Invariant: a call that is given up continues in a daemon thread, which ends with the process at the latest.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Value = TypeVar("Value")


def call_interruptibly(call: Callable[[], Value]) -> Value:
    """Return what `call` returns; in the main thread, wait for it in Python, which runs signal handlers only there."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    future = Future[Value]()
    threading.Thread(target=_settle, args=(future, call), name="upload", daemon=True).start()
    return future.result()


def _settle(future: Future[Value], call: Callable[[], Value]) -> None:
    try:
        value = call()
    except BaseException as error:  # raised where the call is waited for
        future.set_exception(error)
    else:
        future.set_result(value)
