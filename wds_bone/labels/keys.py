"""Make the key of a sample from the id in a label table.

In: the text of one cell, and its location for error messages.
Out: the id as it joins films, and the key under which the sample is stored.
Invariant: a key consists of 1 to 64 of the characters `A-Z a-z 0-9 _ -`; it is the id unchanged, or (asked for) a
function of the id alone, different for different ids.
"""

import hashlib
import re
import unicodedata

from wds_bone.errors import LabelError

KEY_PATTERN = re.compile(r"\A[A-Za-z0-9_-]{1,64}\Z")
MAX_ID_WIDTH = 64

_IMAGE_SUFFIX = re.compile(r"\.(png|jpe?g|tiff?|dcm|dicom|ima)\Z", re.IGNORECASE)
_WHOLE_FLOAT = re.compile(r"\A([0-9]+)\.0+\Z")
_WHOLE_WITH_COMMA = re.compile(r"\A([0-9]+),0+\Z")
_ASCII_DIGITS = re.compile(r"\A[0-9]+\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_FORMULA_START = ("=", "+", "-", "@")
_HASH_LETTERS = 12


def parse_id(text: str, *, width: int | None = None, decimal_comma: bool = False) -> str:
    """Return the id of a film: `text` without surrounding space, image suffix and the `.0` of a float.

    Args:
        text: the cell.
        width: the number of digits of ids that are numbers; leading zeros are added or dropped. None keeps them.
        decimal_comma: whether the `.0` may be `,0`.
    """
    identity = unicodedata.normalize("NFC", text.strip())
    if "." in identity:
        identity = _WHOLE_FLOAT.sub(r"\1", _IMAGE_SUFFIX.sub("", identity))
    if decimal_comma:
        identity = _WHOLE_WITH_COMMA.sub(r"\1", identity)
    if width is None or not _ASCII_DIGITS.match(identity):
        return identity
    return (identity.lstrip("0") or "0").zfill(width)


def parse_key(identity: str, *, where: str, safe: bool = False) -> str:
    """Return the key of a sample.

    Args:
        identity: its id.
        where: the location for error messages.
        safe: make a key from an id that is not one: its valid characters and 12 hexadecimal digits of its hash.

    Raises:
        LabelError: if the id is not 1 to 64 of the characters `A-Z a-z 0-9 _ -`; or, with `safe`, if it is empty, has
            unprintable characters, or starts like a formula, which a spreadsheet would compute.
    """
    if KEY_PATTERN.match(identity):
        return identity
    if safe:
        return _safe_key(identity, where)
    raise LabelError(
        f"{where}: the id is not a valid key",
        expected="1 to 64 of the characters A-Z a-z 0-9 _ - (an image suffix such as .png may follow)",
        got=repr(identity),
        do="rename the image and its id, choose another column with --id-column, or make keys with --safe-keys",
    )


def _safe_key(identity: str, where: str) -> str:
    if not identity or not identity.isprintable() or identity.startswith(_FORMULA_START):
        raise LabelError(
            f"{where}: no key can be made from the id",
            expected=f"printable characters, and none of {' '.join(_FORMULA_START)} at the start",
            got=repr(identity),
            do="rename the image and its id, or choose another column with --id-column",
        )
    digest = hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()[:_HASH_LETTERS]
    return f"{_UNSAFE.sub('_', identity)[: 63 - _HASH_LETTERS]}-{digest}"
