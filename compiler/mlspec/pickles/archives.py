"""The files in zip and tar archives: their names, and how they begin."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MOST_MEMBERS = 65_536
_BEGIN = b"PK\x03\x04"
_END_RECORD = b"PK\x05\x06"
_END_RECORD_BYTES = 22
_LOCATOR = b"PK\x06\x07"
_LOCATOR_BYTES = 20
_LONGEST_COMMENT = 65_535
_MOST_DIRECTORY_BYTES = 64 << 20
_TAR_BLOCK = 512
_LARGEST_FILE_BYTES = 1 << 40


class Unreadable(Exception):  # noqa: N818 - no error of the program
    """An archive that can't be looked through; the message says what it is."""


@dataclass(frozen=True)
class Member:
    """A file in an archive, and its first bytes."""

    name: str
    begin: bytes


def zip_members(file: BinaryIO, head: bytes, most_bytes: int) -> Iterator[Member]:
    """The files of a zip archive, which may begin anywhere in the file; none if it holds no archive.

    Raises:
        Unreadable: its list of files is too long, or one can't be read.
    """
    if not _has_end_record(file):
        if head.startswith(_BEGIN):
            raise Unreadable("a zip archive that is cut off (its list of files is missing)")
        return
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            if len(infos) > MOST_MEMBERS:
                raise Unreadable(f"a zip archive of {len(infos):,} files")
            for info in infos:
                with archive.open(info) as member:
                    yield Member(info.filename, member.read(most_bytes))
    except (RuntimeError, NotImplementedError):
        raise Unreadable("a zip archive that is encrypted, or packed in an unknown way") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as problem:
        # Something that only looks like one, unless it begins as one does.
        if head.startswith(b"PK"):
            raise Unreadable("a broken zip archive") from problem
    finally:
        file.seek(0)


def _has_end_record(file: BinaryIO) -> bool:
    """Whether there is the record that ends an archive. Raises Unreadable if that tells of too long a list of files."""
    size = file.seek(0, 2)
    start = max(0, size - _END_RECORD_BYTES - _LONGEST_COMMENT)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END_RECORD)
    if at < 0 or len(tail) - at < _END_RECORD_BYTES:
        return False
    length = _number(tail[at + 12 : at + 16])
    # All bits set: the length is in the record of zip64.
    if max(length if length != 0xFFFF_FFFF else 0, _large_directory_bytes(file, tail[:at])) > _MOST_DIRECTORY_BYTES:
        raise Unreadable("a zip archive with too long a list of files")
    return True


def _large_directory_bytes(file: BinaryIO, before: bytes) -> int:
    """The length of the list by the record of zip64, which archives beyond 4 GiB or 65,535 files have."""
    locator = before[-_LOCATOR_BYTES:]
    if not locator.startswith(_LOCATOR):
        return 0
    file.seek(min(_number(locator[8:16]), _LARGEST_FILE_BYTES))
    return _number(file.read(48)[40:])


def _number(content: bytes) -> int:
    return int.from_bytes(content, "little")


def tar_members(file: BinaryIO, head: bytes, most_bytes: int) -> Iterator[Member]:
    """The files of a tar archive that isn't packed (POSIX `ustar`, GNU); none if it is no archive.

    Raises:
        Unreadable: it holds too many files.
    """
    if head[257:262] != b"ustar":
        return
    file.seek(0)
    for _ in range(MOST_MEMBERS):
        header = file.read(_TAR_BLOCK)
        if len(header) < _TAR_BLOCK or not header.strip(b"\0"):
            return
        size = _tar_size(header[124:136])
        begin = file.tell()
        yield Member(header[:100].rstrip(b"\0").decode("utf-8", "replace"), file.read(min(size, most_bytes)))
        file.seek(begin + -(-size // _TAR_BLOCK) * _TAR_BLOCK)
    raise Unreadable("a tar archive of too many files")


def _tar_size(digits: bytes) -> int:
    """In octal digits, or from 8 GiB on in binary. Raises Unreadable if it is neither."""
    try:
        size = int.from_bytes(digits[1:], "big") if digits[:1] == b"\x80" else int(digits.strip(b"\0 ") or b"0", 8)
    except ValueError:
        size = -1
    if not 0 <= size <= _LARGEST_FILE_BYTES:
        raise Unreadable("a broken tar archive")
    return size
