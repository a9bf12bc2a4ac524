"""Where the files of a snapshot come from: a directory or an archive, read in memory, never trusted.

Nothing is extracted to disk, no link is followed out of the directory, and every size is counted while reading, so
that an archive that unpacks to terabytes ends with an error after the limit and not after the memory.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from ..errors import SnapshotError
from ..model.where import Where

if TYPE_CHECKING:
    import mmap
    import tarfile
    import zipfile
    from pathlib import Path

    Bytes = bytes | mmap.mmap

MAX_FILE = 256 << 20  # bytes of one file, unpacked
MAX_TOTAL = 512 << 20  # bytes of all files, unpacked
MAX_MEMBERS = 10_000
MAX_DEPTH = 8  # folders within folders
_CHUNK = 16 << 20
_MAPPED = 1 << 20  # bytes from which a file is looked at where the kernel has it: copying costs as much as decoding
REMEDY_SIZE = "a snapshot holds text dumps of one or a few hosts; remove what does not belong to it"


class Source:
    """Files by relative path (``/`` between the parts); ``read`` gives the bytes of one."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self._open: dict[str, Callable[[], IO[bytes]]] = {}
        self._left = MAX_TOTAL
        self._paid: set[str] = set()  # files whose size is already taken off
        self.refused: list[SnapshotError] = []

    def names(self) -> list[str]:
        return sorted(self._open)

    def refuse(self, member: str, why: str) -> None:
        self.refused.append(SnapshotError(f"refused: {why}", Where(printable(member))))

    def add(self, member: str, opener: Callable[[], IO[bytes]]) -> None:
        """Offer a file under its cleaned relative path."""
        if member.startswith("__MACOSX/"):
            return
        name = clean(member)
        if name is None:
            self.refuse(member, "its path leads out of the snapshot")
        elif name.count("/") > MAX_DEPTH:
            self.refuse(member, "too many folders within folders")
        elif len(self._open) >= MAX_MEMBERS:
            raise SnapshotError(f"more than {MAX_MEMBERS} files", Where(self.name), REMEDY_SIZE)
        else:
            self._open[name] = opener

    def read(self, name: str) -> Bytes:
        """All bytes of a file, within the limits."""
        try:
            with self._open[name]() as stream:
                return self._mapped(stream, name) or self._drain(stream, name)
        except SnapshotError:
            raise
        except MemoryError:
            raise SnapshotError("too large for the memory", Where(name), REMEDY_SIZE) from None
        except PermissionError as error:
            raise SnapshotError("may not be read", Where(name), "check its owner and mode") from error
        except Exception as error:  # zlib, lzma, zipfile, tarfile and the file system each have their own
            why = (
                error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
            )
            raise SnapshotError(f"cannot be read: {why[:200]}", Where(name)) from error

    def _mapped(self, stream: IO[bytes], name: str) -> Bytes | None:
        """A large regular file as it lies in the page cache; None for any other, and for one beyond the limits."""
        if not isinstance(stream, io.BufferedReader) or not isinstance(stream.raw, io.FileIO):
            return None
        told = os.fstat(stream.fileno())
        size = told.st_size
        if not stat.S_ISREG(told.st_mode) or not _MAPPED <= size <= min(MAX_FILE, self._left):
            return None
        import mmap

        try:
            found = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
        except OSError:  # some file systems cannot
            return None
        self._left -= 0 if name in self._paid else size
        self._paid.add(name)
        return found

    def _drain(self, stream: IO[bytes], name: str) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            self._left -= 0 if name in self._paid else len(chunk)
            if size > MAX_FILE or self._left < 0:
                limit = MAX_FILE if size > MAX_FILE else MAX_TOTAL
                raise SnapshotError(f"larger than {limit >> 20} MiB unpacked", Where(name), REMEDY_SIZE)
            chunks.append(chunk)
        self._paid.add(name)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def printable(text: str) -> str:
    """A name from outside without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def clean(member: str) -> str | None:
    """A member's path without ``./``; None where it is absolute or climbs out."""
    if member.startswith("/") or "\0" in member or "\\" in member or member[1:2] == ":":
        return None
    parts = [part for part in member.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or any(not part.isprintable() for part in parts):
        return None
    return "/".join(parts)


def open_source(path: Path) -> Source:
    """The files behind a path. Raises SnapshotError for what is neither directory nor archive."""
    try:
        if path.is_dir():
            return _directory(path)
        if not path.is_file():
            raise SnapshotError("no such file or directory", Where(printable(str(path))))
        with path.open("rb") as stream:
            magic = stream.read(264)
    except OSError as error:
        raise SnapshotError(f"cannot be opened: {error.strerror}", Where(printable(str(path)))) from error
    if magic[:4] in (b"PK\3\4", b"PK\5\6"):
        return _zip(path)
    if magic[:2] == b"\x1f\x8b" or magic[257:262] == b"ustar" or path.name.endswith((".tar", ".tgz", ".tar.gz")):
        return _tar(path)
    remedy = "expected a directory, .tar, .tar.gz or .zip made by: nattrace snapshot"
    raise SnapshotError("not a snapshot", Where(printable(str(path))), remedy)


def single_file(path: str) -> Bytes:
    """A file named on the command line (``-`` and pipes are files too)."""
    source = Source(path)
    source.add("file", lambda: io.BufferedReader(io.FileIO(path)))
    try:
        return source.read("file")
    except SnapshotError as error:
        raise SnapshotError(error.message, Where(printable(path)), error.remedy) from error


def _directory(root: Path) -> Source:
    root = root.resolve()
    source = Source(root)
    for file, name in _walk(root, root, 0):
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = file.resolve()
            if not target.is_relative_to(root):
                source.refuse(name, "the link leads out of the snapshot")
                continue
            mode = target.stat().st_mode if target.exists() else 0
        if clean(name) is None:
            if wanted(name):
                source.refuse(name, "its name holds characters that no file of a snapshot has")
        elif stat.S_ISREG(mode):
            source.add(name, lambda file=file: file.open("rb"))  # type: ignore[misc]
        elif not stat.S_ISDIR(mode):
            source.refuse(name, "neither a file nor a folder")
    return source


def _walk(root: Path, folder: Path, depth: int) -> Iterator[tuple[Path, str]]:
    """Everything but folders, without following links to folders."""
    from pathlib import Path

    if depth > MAX_DEPTH:
        return
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count > MAX_MEMBERS:
                raise SnapshotError(f"more than {MAX_MEMBERS} files", Where(root.name), REMEDY_SIZE)
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    yield from _walk(root, Path(entry.path), depth + 1)
            else:
                file = Path(entry.path)
                yield file, file.relative_to(root).as_posix()


def _zip(path: Path) -> Source:
    import zipfile

    source = Source(path)
    try:
        archive = zipfile.ZipFile(path)
        members = archive.infolist()
    except Exception as error:  # BadZipFile, NotImplementedError, struct.error, OverflowError …
        raise SnapshotError(f"not a readable zip: {str(error)[:200]}", Where(source.name)) from error
    for member in members:
        mode = member.external_attr >> 16
        if member.filename.endswith("/"):
            continue
        if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
            source.refuse(member.filename, "a link or a device in an archive")
        else:
            source.add(member.filename, _zip_opener(archive, member))
    return source


def _zip_opener(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(member)


def _tar(path: Path) -> Source:
    """Members are read in one pass: a compressed tar can't be read at random without unpacking it again."""
    source = Source(path)
    try:
        with _counted(path, source.name) as stream:
            with _open_tar(stream) as archive:
                for count, member in enumerate(archive):
                    if count > MAX_MEMBERS:
                        raise SnapshotError(f"more than {MAX_MEMBERS} files", Where(source.name), REMEDY_SIZE)
                    _tar_member(source, archive, member)
            stream.finish()
    except SnapshotError:
        raise
    except Exception as error:  # TarError, EOFError, zlib.error, BadGzipFile, OverflowError …
        raise SnapshotError(f"not a readable tar: {str(error)[:200]}", Where(source.name)) from error
    return source


MAX_PAX = 8 << 10  # bytes of one extended header; its parser's time grows with the square (CVE-2024-6232)


def _open_tar(stream: _Counted) -> tarfile.TarFile:
    import tarfile

    class Info(tarfile.TarInfo):
        """A member whose extended headers are refused before they are parsed."""

        def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
            if self.size > MAX_PAX:
                raise tarfile.ReadError("an extended header is too long")
            return super()._proc_pax(archive)  # type: ignore[misc]

    return tarfile.open(fileobj=stream, mode="r|", tarinfo=Info)  # type: ignore[call-overload]


class _Counted:
    """A stream that refuses to give more than MAX_TOTAL (and tar headers) bytes: gzip of zeros packs 1000:1."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.stream = stream
        self.name = name
        self.left = MAX_TOTAL + (MAX_MEMBERS << 11)
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(min(size, _CHUNK) if size >= 0 else _CHUNK)
        self.left -= len(data)
        if self.left < 0:
            raise SnapshotError(f"larger than {MAX_TOTAL >> 20} MiB unpacked", Where(self.name), REMEDY_SIZE)
        self.tail = (self.tail + data)[-512:]
        return data

    def finish(self) -> None:
        """Read to the end, so that a checksum is checked; an archive ends with empty blocks, unless it was cut off."""
        while self.read(_CHUNK):
            pass
        if any(self.tail):
            raise SnapshotError("the archive is cut off: its end is missing", Where(self.name), "copy it again")

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *what: object) -> None:
        self.stream.close()


def _counted(path: Path, name: str) -> _Counted:
    stream: IO[bytes] = path.open("rb")
    if stream.read(2) == b"\x1f\x8b":
        import gzip

        stream.close()
        return _Counted(gzip.open(path, "rb"), name)  # type: ignore[arg-type]
    stream.seek(0)
    return _Counted(stream, name)


def _tar_member(source: Source, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    if member.isdir():
        return
    if not member.isreg():
        source.refuse(member.name, "a link or a device in an archive")
        return
    if clean(member.name) is None or not wanted(member.name):
        source.add(member.name, _unread)
        return
    stream = archive.extractfile(member)
    if stream is None:
        return
    data = source._drain(stream, clean(member.name) or member.name)
    source.add(member.name, lambda: io.BytesIO(data))


def _unread() -> IO[bytes]:
    raise SnapshotError("was not read")


def wanted(member: str) -> bool:
    """Whether a file can be part of a snapshot by its name: others are listed, their bytes are skipped."""
    return member.endswith((".txt", ".json"))
