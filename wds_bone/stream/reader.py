"""Read, check and decode one sample, straight into its row of the batch.

In: where the image of a sample is stored.
Out: its pixels in a uint8 (H, W) row.
Invariant: no decoder sees bytes that have not been checked against their crc32. Thread-safe.
"""

from dataclasses import dataclass, field
from functools import cached_property
from threading import local

from zlib_ng.zlib_ng import crc32

from wds_bone.errors import ImageError, ShardError
from wds_bone.shards.manifest import REBUILD
from wds_bone.storage.local import WritableBuffer
from wds_bone.storage.location import Storage
from wds_bone.stream.decode import NPY_HEADER_BYTES, Row, check_npy_header, decode_into
from wds_bone.stream.lookup import StoredImage
from wds_bone.stream.selection import Selection


@dataclass(eq=False)
class SampleReader:
    """Reads the samples of one selection.

    Attributes:
        selection: the shards and the table of their samples.
        storage: reads bytes of the shards.
    """

    selection: Selection
    storage: Storage
    _buffers: local = field(default_factory=local, init=False)  # one for each thread

    def prefetch(self, image: StoredImage) -> None:
        """Tell the storage that this image will be read soon; never raises."""
        self.storage.prefetch(image.shard, image.offset, image.size)

    def read_into(self, image: StoredImage, row: Row, buffer: memoryview) -> None:
        """Fill `row` with the pixels of an image.

        Args:
            image: where it is stored.
            row: uint8 (H, W), in the size of the selection's image format.
            buffer: returned by `thread_buffer` in this thread; receives the encoded image.

        Raises:
            ShardError: if the bytes cannot be read or fail their checksum; names the shard and the key.
            ImageError: if they are not the image that the index describes.
        """
        number, size, encoding = image.number, image.size, image.encoding
        if encoding == "npy" and size == NPY_HEADER_BYTES + row.nbytes and not self._fits:
            self._read_raw(image, row, buffer)
            return
        contents = buffer[:size]
        self._read(image, [contents])
        try:
            decode_into(contents, encoding, row, fit=self._fits)
        except ValueError as error:
            raise self._image_error(number, error) from error

    def thread_buffer(self) -> memoryview:
        """Return the buffer of the calling thread; allocating one per sample would cost more than the read."""
        if not hasattr(self._buffers, "view"):
            self._buffers.view = memoryview(bytearray(self._largest_bytes))
        view: memoryview = self._buffers.view
        return view

    def _read_raw(self, image: StoredImage, row: Row, buffer: memoryview) -> None:
        """Read the pixels of a raw array straight into `row`, and its header into the buffer."""
        header = buffer[:NPY_HEADER_BYTES]
        self._read(image, [header, row])
        try:
            check_npy_header(header, row)
        except ValueError as error:
            raise self._image_error(image.number, error) from error

    def _read(self, image: StoredImage, into: list[WritableBuffer]) -> None:
        """Fill the buffers with the bytes of an image; bytes that fail their checksum are fetched once more."""
        _, shard, offset, size, expected, _ = image
        self.storage.read(shard, offset, size=size, into=into)
        if (got := _crc32_of(into)) != expected and self.storage.forget(shard, offset, size):
            self.storage.read(shard, offset, size=size, into=into)
            got = _crc32_of(into)
        if got != expected:
            raise self._checksum_error(image.number, expected, got)

    @cached_property
    def _fits(self) -> bool:
        return self.selection.image.is_letterboxed_on_read

    @cached_property
    def _largest_bytes(self) -> int:
        return int(self.selection.table["size"].max())

    def _checksum_error(self, sample: int, expected: int, got: int) -> ShardError:
        problem = f"{self.selection.where(sample)} fails its checksum"
        return ShardError(problem, expected=f"crc32 {expected:08x}", got=f"crc32 {got:08x}", do=REBUILD)

    def _image_error(self, sample: int, error: ValueError) -> ImageError:
        image = self.selection.image
        expected = f"a gray image of {image.height} x {image.width} pixels"
        return ImageError(f"{self.selection.where(sample)} cannot be decoded", expected=expected, got=error, do=REBUILD)


def _crc32_of(buffers: list[WritableBuffer]) -> int:
    checksum = 0
    for buffer in buffers:
        checksum = crc32(buffer, checksum)
    return checksum
