"""Print the errors of films and rows that failed: the first few of each kind, and how many more there are.

In: an error for each film or row.
Out: text on stderr.
Invariant: every error is printed, or counted in a line that is, and all of them are kept.
"""

from collections import Counter
from dataclasses import dataclass, field

from wds_bone.errors import WdsBoneError
from wds_bone.progress import print_above

SHOWN_OF_A_KIND = 10


@dataclass
class Failures:
    """The films and rows that failed.

    Attributes:
        errors: their errors, in the order in which they were found.
        num_hidden: how many of them were counted, but not printed.
    """

    errors: list[WdsBoneError] = field(default_factory=list)
    num_hidden: int = 0
    _shown: Counter[str] = field(default_factory=Counter)
    _hidden: Counter[str] = field(default_factory=Counter)

    def add(self, error: WdsBoneError, *, kind: str | None = None) -> None:
        """Keep an error, and print it if it is one of the first of its kind.

        Args:
            error: the error.
            kind: what it is counted as; None for what its problem says after the location.
        """
        self.errors.append(error)
        kind = kind or error.problem.rpartition(": ")[2]
        if self._shown[kind] < SHOWN_OF_A_KIND:
            self._shown[kind] += 1
            print_above(f"error: {error}")
        else:
            self._hidden[kind] += 1

    def print_counts(self) -> None:
        """Print how many errors of each kind were not printed since the last time."""
        for kind, count in self._hidden.items():
            print_above(f"error: {count:,} more like the {SHOWN_OF_A_KIND} above: {kind}")
        self.num_hidden += self._hidden.total()
        self._hidden.clear()
