"""Release a resource when its owner is gone, without running any Python code.

In: an owner, and a function that is written in C.
Out: one call of the function.
Invariant: nothing that this package runs in a finalizer is Python code.

Python calls signal handlers between the instructions of Python code, and it prints and then forgets an exception that
is raised in a finalizer: in `__del__`, in a callback of a weak reference, and in the `finally` of a generator that is
dropped. Ctrl-C that arrives there would be lost. Functions written in C are not interrupted. Therefore no generator of
this package has a `try` or a `with` around a `yield` that may never be resumed, and `weakref.finalize` and `WeakSet`,
whose callbacks are Python code, are not used for objects that a loop creates.
"""

import itertools
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

_numbers = itertools.count()
_references: dict[int, tuple[weakref.ref[Any], ...]] = {}  # a reference that is gone calls nothing


def call_when_gone(owner: object, function: Callable[[Any], object], argument: Any) -> None:
    """Call `function(argument)` when `owner` is gone; not when the interpreter exits.

    Args:
        owner: any object that can be referenced weakly.
        function: a function or method written in C, such as `list.append`; it should not raise an error.
        argument: its argument, which must not reference the owner.
    """
    number = next(_numbers)
    call = map(function, [argument])  # `next` calls it once; the reference that it is given is the default of `next`
    forget = weakref.ref(owner, partial(_references.pop, number))  # called last: callbacks run in reverse order
    _references[number] = forget, weakref.ref(owner, partial(next, call))
