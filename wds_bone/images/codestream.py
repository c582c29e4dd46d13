"""Read the size of a compressed image from its own header.

In: a JPEG, JPEG-LS or JPEG 2000 codestream.
Out: a `Codestream`: what a decoder would allocate.
Invariant: nothing is decoded.
"""

import struct
from dataclasses import dataclass

_JPEG_START, _JPEG_2000_START, _JPEG_2000_FILE = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
# Markers without a segment (ITU-T T.81 table B.1), and frame headers including that of JPEG-LS (ITU-T T.87 C.1.1).
_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))
_FRAME_MARKERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_SCAN_MARKER = 0xDA


@dataclass(frozen=True)
class Codestream:
    """What the header of a codestream says: the size in pixels, the bits of each value, and the number of colors."""

    height: int
    width: int
    num_bits: int
    num_components: int


def read_codestream(contents: bytes) -> Codestream | None:
    """Return what the header of a codestream says, or None if there is no complete header."""
    try:
        if contents.startswith(_JPEG_START):
            return _read_jpeg(contents)
        start = max(contents.find(_JPEG_2000_START), 0) if contents.startswith(_JPEG_2000_FILE) else 0
        return _read_jpeg_2000(contents, start) if contents.startswith(_JPEG_2000_START, start) else None
    except (struct.error, IndexError):
        return None


def _read_jpeg(contents: bytes) -> Codestream | None:
    """Return the first frame header (ITU-T T.81 B.2.2)."""
    offset = len(_JPEG_START)
    while contents[offset] == 0xFF:
        marker = contents[offset + 1]
        if marker in _FRAME_MARKERS:
            num_bits, height, width, num_components = struct.unpack_from(">BHHB", contents, offset + 4)
            return Codestream(height, width, num_bits, num_components)
        if marker == _SCAN_MARKER:
            return None
        if marker == 0xFF:  # a fill byte
            offset += 1
        else:
            offset += 2 if marker in _BARE_MARKERS else 2 + struct.unpack_from(">H", contents, offset + 2)[0]
    return None


def _read_jpeg_2000(contents: bytes, start: int) -> Codestream:
    """Return the size segment, which is always the first (ITU-T T.800 A.5.1)."""
    right, bottom, left, top = struct.unpack_from(">4I", contents, start + 8)
    num_components, precision = struct.unpack_from(">HB", contents, start + 40)
    return Codestream(bottom - top, right - left, (precision & 0x7F) + 1, num_components)
