"""Ask for the bytes of pieces of shards.

In: pieces.
Out: their bytes, or the error that whoever waits for them raises.
Invariant: all pieces of a shard are of one version, that of its first one, which has the size of its index. It is
thread-safe.
"""

from collections.abc import Mapping, Sequence

from wds_bone.objects.protocol import ChangedError, Objects, Version
from wds_bone.remote.demand import Answer, Piece
from wds_bone.remote.shard import RemoteShard


class Requests:
    """Requests for pieces of some shards.

    Args:
        shards: the shards.
        clients: reads bytes of them, by scheme; this object will close the clients.
    """

    def __init__(self, shards: Sequence[RemoteShard], clients: Mapping[str, Objects]) -> None:
        self._shards, self._clients = shards, clients
        self._versions = dict[int, Version]()

    def fetch(self, piece: Piece) -> Answer:
        """Return the bytes of a piece, or an error."""
        if not piece.num_bytes:
            return memoryview(b"")
        shard = self._shards[piece.shard]
        try:
            client = self._clients[shard.url.scheme]
            version = self._version(piece.shard, shard, client)
            return memoryview(client.read(shard.url, piece.start, piece.num_bytes, version=version))
        except Exception as error:  # raised by whoever waits for it
            return error

    def close(self) -> None:
        """End the requests that are waiting."""
        for client in self._clients.values():
            client.close()

    def _version(self, number: int, shard: RemoteShard, client: Objects) -> Version:
        if number not in self._versions:
            version = client.version(shard.url)
            if version.num_bytes != shard.num_bytes:
                raise ChangedError(f"it has {version.num_bytes:,} bytes, not the {shard.num_bytes:,} of its index")
            self._versions[number] = version
        return self._versions[number]
