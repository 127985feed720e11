"""A folder of images or texts: one row a file, in the order of their paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec_runtime.batch.pieces import Piece, Records, unreadable
from mlspec_runtime.batch.sources import CELL_BYTES, PIECE_BYTES, InputFile
from mlspec_runtime.errors import ServiceError

PIECE_FILES = 256


@dataclass(frozen=True)
class Files(Records):
    """Records of files: what is shown of one is where it is and how large, never its content."""

    def record(self, row: int) -> Any:
        return {key: self.records[row][key] for key in ("path", "size_bytes")}


class FilesOfAFolder:
    """Rows with the columns `path` (relative to the folder) and `image` (bytes) or `text`."""

    usual_keep: tuple[str, ...] | None = ("path",)

    def __init__(self, folder: Path, column: str, files: tuple[InputFile, ...]) -> None:
        self.files = files
        self._folder = folder
        self._column = column

    def names(self) -> tuple[str, ...]:
        return "path", self._column

    def rows(self) -> int:
        return len(self.files)

    def arrow_type(self, column: str) -> Any:
        return None

    def pieces(self, columns: Sequence[str], first: int) -> Iterator[Piece]:
        read_bytes = sum(file.size_bytes for file in self.files[:first])
        at = first
        while at < len(self.files):
            taken = _some(self.files, at)
            read_bytes += sum(file.size_bytes for file in taken)
            yield self._piece(at, taken, read_bytes)
            at += len(taken)

    def _piece(self, first: int, taken: Sequence[InputFile], read_bytes: int) -> Files:
        records: list[Any] = []
        faults: dict[int, ServiceError] = {}
        for row, file in enumerate(taken):
            path = file.path.relative_to(self._folder).as_posix().encode("utf-8", "backslashreplace").decode()
            content = self._content(file)
            records.append({"path": path, "size_bytes": file.size_bytes})
            if isinstance(content, ServiceError):
                faults[row] = content
            else:
                records[row][self._column] = content
        return Files(first, records, read_bytes, faults)

    def _content(self, file: InputFile) -> bytes | str | ServiceError:
        if file.fault:
            return unreadable(file.fault)
        if file.size_bytes > CELL_BYTES:
            return unreadable(f"the file has more than {CELL_BYTES >> 20} MiB")
        try:
            content = file.path.read_bytes()
            return content if self._column == "image" else content.decode("utf-8-sig")
        except OSError as problem:
            return unreadable(f"the file can't be read: {(problem.strerror or str(problem)).lower()}")
        except UnicodeDecodeError as problem:
            return unreadable(f"the file is not UTF-8 at byte {problem.start}")


def _some(files: Sequence[InputFile], first: int) -> Sequence[InputFile]:
    taken = 1
    size_bytes = files[first].size_bytes
    while first + taken < len(files) and taken < PIECE_FILES:
        size_bytes += files[first + taken].size_bytes
        if size_bytes > PIECE_BYTES:
            break
        taken += 1
    return files[first : first + taken]
