"""Say what a file or a member is that a shard cannot contain, and how to turn the tar into a shard.

In: the first block of a file, or the type flag of a member.
Out: a name, and commands that work when they are copied.
"""

import shlex
from pathlib import PurePath

_SIGNATURES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"<": "HTML or XML",
}
_PROGRAMS = ("gzip", "bzip2", "xz", "zstd", "lz4")
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"g": "a global PAX header",
    b"K": "a GNU long name",
    b"L": "a GNU long name",
    b"M": "a part of a file on several volumes",
    b"S": "a sparse file",
    b"V": "a volume label",
}
_SPECIAL_FILES = (b"3", b"4", b"6")


def file_kind(block: bytes) -> str | None:
    """Return the format of a file that begins with `block`, or None if that is unknown."""
    return next((kind for signature, kind in _SIGNATURES.items() if block.startswith(signature)), None)


def do_about_file(path: str, kind: str | None) -> str:
    """Return what to do about a file in this format in place of a shard."""
    source, plain, folder = _quoted_paths(path)
    if kind == "zip":
        return f"repack it: `unzip {source} -d {folder} && {_pack(plain, folder)}`"
    if kind in _PROGRAMS:
        return f"decompress it: `{kind} -dc < {source} > {plain}`"
    return "fetch or rebuild the shard"


def member_kind(flag: bytes) -> str:
    """Return what a member with this type flag is."""
    return _KINDS.get(flag, f"a member of type {flag!r}")


def do_about_member(path: str, flag: bytes, name: str) -> str:
    """Return the commands (GNU tar) that turn a tar with such a member into one without it.

    Links become the files that they point to, sparse files become whole, and long names are stored in PAX records.
    """
    return _repack(path, f" --no-wildcards --exclude={shlex.quote(name)}" if flag in _SPECIAL_FILES else "")


def do_about_order(path: str) -> str:
    """Return the commands (GNU tar) that write the members of a tar in the order of their names."""
    return _repack(path)


def _repack(path: str, exclude: str = "") -> str:
    source, plain, folder = _quoted_paths(path)
    return f"repack it: `mkdir {folder} && tar -xf {source} -C {folder}{exclude} && {_pack(plain, folder)}`"


def _quoted_paths(path: str) -> tuple[str, str, str]:
    """Return the tar, and a new tar and a new folder in the working directory, quoted for a shell."""
    stem = PurePath(path).name.split(".tar")[0]
    source = path if "/" in path else f"./{path}"  # GNU tar takes what precedes a colon for a host
    return shlex.quote(source), shlex.quote(f"./{stem}-plain.tar"), shlex.quote(f"./{stem}-files")


def _pack(plain: str, folder: str) -> str:
    return f"tar --sort=name --format=pax -h --hard-dereference -cf {plain} -C {folder} ."
