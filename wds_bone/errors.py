"""Define the errors that a user can cause and fix; any other exception is a bug and shows its traceback.

    WdsBoneError(ValueError)
    ├── ConfigError        a setting is wrong, or settings contradict each other
    ├── LabelError         a label table, one of its rows, or a label in a shard is wrong
    ├── ImageError         a source image, or an image inside a shard, cannot be used
    ├── ShardError         a shard, an index, a manifest, or the folder that holds them is wrong
    └── CheckpointError    a checkpoint, a stream state, or a run folder is damaged or does not fit

Every message gives the location and the problem, what was expected, what was found, and what to do:

    shards/train-000012.tar: sample '4360' fails its checksum
      expected: crc32 91ab03f2
      got:      crc32 07cc11d0
      do:       fetch the shard again, or rebuild it with `wds-bone make-shards`
"""

from functools import partial
from typing import Any

from wds_bone.redaction import redact


class WdsBoneError(ValueError):
    """Base class of the errors that the user can fix; what is secret in a URL is not shown.

    Args:
        problem: one line with the location (file or URL, member or row) and what is wrong there.
        expected: what should have been found; None omits the line.
        got: what was found instead; None omits the line.
        do: how to fix it.
    """

    def __init__(self, problem: str, *, expected: object = None, got: object = None, do: str) -> None:
        self.problem, self.expected, self.got, self.do = redact(problem), expected, got, do
        super().__init__(self.problem)

    def __str__(self) -> str:
        lines = [self.problem]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.got is not None:
            lines.append(f"  got:      {self.got}")
        return redact("\n".join([*lines, f"  do:       {self.do}"]))

    def __reduce__(self) -> tuple[Any, ...]:
        # The writer processes send errors to the command; by default, pickle restores positional arguments only.
        return partial(type(self), expected=self.expected, got=self.got, do=self.do), (self.problem,)


class ConfigError(WdsBoneError):
    """A setting is wrong, or settings contradict each other."""


class LabelError(WdsBoneError):
    """A label table, one of its rows, or a label in a shard is wrong."""


class ImageError(WdsBoneError):
    """A source image, or an image inside a shard, cannot be used."""


class ShardError(WdsBoneError):
    """A shard, an index, a manifest, or the folder that holds them is wrong."""


class CheckpointError(WdsBoneError):
    """A checkpoint, a stream state, or a run folder is damaged or does not fit."""
