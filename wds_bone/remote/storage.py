"""Read byte ranges of shards in object storage, through a cache in a local folder or without one.

In: a shard number, an offset and buffers; announcements of what will be read.
Out: the filled buffers, or an error.
Invariant: `read` returns the bytes of the shard, from wherever they are at hand, and never waits without an end. No
request is made for what is in the cache. Thread-safe.
"""

import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from queue import Empty
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ShardError
from wds_bone.remote.cache import Cache
from wds_bone.remote.demand import Waiter, Want
from wds_bone.remote.fetch import Fetcher
from wds_bone.remote.part_file import PartFile
from wds_bone.remote.shard import RemoteShard
from wds_bone.storage.local import WritableBuffer, advise
from wds_bone.storage.objects import Objects, Transfer

READ_SECONDS = 600.0
"""How long a read waits at most; the client ends a request without progress much sooner."""
AHEAD_BYTES = 32 * 2**20
MAX_BATCHES_AHEAD = 64
WAIT_SECONDS, POLL_SECONDS = 1.0, 0.005

NextUse = Callable[[], NDArray[np.int64]]
"""Returns int64 (shards,), in how many samples each shard is needed next."""
