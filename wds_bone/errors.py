"""The errors that a user can cause and mend; everything else is a bug and shows its traceback.

    WdsBoneError(ValueError)
    ├── ConfigError        a setting is wrong, or settings contradict each other
    ├── LabelError         a label table, row or label member
    ├── ImageError         a source image, or an image inside a shard
    ├── ShardError         a shard, an index, a manifest, or the folder that holds them
    └── CheckpointError    a checkpoint, a stream state, or a run folder that does not fit

Every message names the place, what was expected against what was found, and what to do:

    shards/train-000012.tar: sample '4360' fails its checksum
      expected: crc32 91ab03f2
      got:      crc32 07cc11d0
      do:       fetch the shard again, or rebuild it with `python scripts/make_shards.py`
"""

from functools import partial
from typing import Any


class WdsBoneError(ValueError):
    """Something the user can mend.

    Args:
        problem: one line that names the file or URL, the member or row, and what is wrong there.
        expected: what should have been there, if there is such a thing.
        got: what was found instead.
        do: what mends it.
    """

    def __init__(self, problem: str, *, expected: object = None, got: object = None, do: str) -> None:
        super().__init__(problem)
        self.problem, self.expected, self.got, self.do = problem, expected, got, do

    def __str__(self) -> str:
        lines = [self.problem]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.got is not None:
            lines.append(f"  got:      {self.got}")
        return "\n".join([*lines, f"  do:       {self.do}"])

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel from the writer's processes to the command; keyword arguments need help to survive pickling.
        return partial(type(self), expected=self.expected, got=self.got, do=self.do), (self.problem,)


class ConfigError(WdsBoneError):
    """A setting is wrong, or settings contradict each other."""


class LabelError(WdsBoneError):
    """A label table, one of its rows, or a label member of a shard."""


class ImageError(WdsBoneError):
    """A source image, or an image inside a shard."""


class ShardError(WdsBoneError):
    """A shard, an index, a manifest, or the folder that holds them."""


class CheckpointError(WdsBoneError):
    """A checkpoint, a stream state, or a run folder that does not fit."""
