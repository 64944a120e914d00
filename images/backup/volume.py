"""A volume to a tar stream, and back: runs as root in a container that is there for that alone.

Any sealed or environment image will do, also one that an older jupbox made: this text is handed
over on the command line, and needs nothing but Python's own library (3.9 or newer).

    volume.py read FOLDER HEADER [deflate]   the folder on standard output; ends with its input
    volume.py write FOLDER MAP [inflate]     standard input into the empty folder, then a line for
                                             each entry that is in it, read anew

The stream is a pax tar: `jupbox-backup.json` (HEADER as it is), `home` and what is below it in the
order of names, `jupbox-manifest.jsonl`. The manifest has a JSON line for each entry, one for each
note (a file that changed while it was read), and a last one that counts and hashes the others. A
large file that changed while it was read comes once more, at once; the last time counts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import stat
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO, NamedTuple

HEADER = "jupbox-backup.json"
MANIFEST = "jupbox-manifest.jsonl"
TOP = "home"
ABANDONED = 3

_BLOCK = 512
_CHUNK = 1 << 20
_HOLE = 1 << 16
_ZEROS = bytes(_CHUNK)
# what is larger is not held in memory, and so cannot be looked at before it is sent
_WHOLE = 32 << 20
_LARGE_TRIES = 3
# a kernel's clock for files moves in steps of up to 10 ms: within one, a change shows nowhere
_STEP_NS = 20_000_000
_PATIENCE = 5.0
_ALL_PATIENCE = 60.0

Read = Callable[[int], bytes]

_done = threading.Event()


class Entry(NamedTuple):
    """Something in the tree, its folder open."""

    path: str
    folder: int
    name: str
    status: os.stat_result


def main(arguments: list[str]) -> int:
    """Do what the arguments say; a failure is one JSON line on standard error."""
    verb, folder, told, *rest = arguments
    try:
        if verb == "read":
            threading.Thread(target=_end_with_input, daemon=True).start()
            out = _Deflated(sys.stdout.buffer) if rest else _Plain(sys.stdout.buffer)
            Reader(out).run(folder, told)
        else:
            source = sys.stdin.buffer.read if not rest else _Inflated(sys.stdin.buffer).read
            write(folder, source, json.loads(told))
            list_tree(folder, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except (OSError, tarfile.TarError, zlib.error, ValueError) as error:
        number = getattr(error, "errno", None)
        said = {
            "errno": errno.errorcode.get(number) if number else None,
            "error": getattr(error, "strerror", None) or str(error),
            "path": getattr(error, "filename", None),
        }
        sys.stderr.write(json.dumps(said, default=repr) + "\n")
        return 1
    return 0


def _end_with_input() -> None:
    # whoever started us holds it open; when they are gone nobody wants the rest
    while os.read(0, _CHUNK):
        pass
    if not _done.is_set():
        os._exit(ABANDONED)


# --- the tree -----------------------------------------------------------------------------------


def walk(top: str) -> Iterator[Entry]:
    """All that is in a tree, parents first, in the order of the bytes of names."""
    yield Entry(TOP, -1, top, os.lstat(top))
    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    stack = [(TOP, root, iter(_names(root)))]
    while stack:
        path, folder, names = stack[-1]
        name = next(names, None)
        if name is None:
            os.close(folder)
            stack.pop()
            continue
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(name, dir_fd=folder)
            yield Entry(f"{path}/{name}", folder, name, status)
            if stat.S_ISDIR(status.st_mode):
                below = _open_folder(name, folder)
                if below is not None:
                    stack.append((f"{path}/{name}", below, iter(_names(below))))


def _names(folder: int) -> list[str]:
    return sorted(os.listdir(folder), key=os.fsencode)


def _open_folder(name: str, folder: int) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return None  # it is gone, or something else by now
        raise


class Links:
    """Which entries are further names of a file that came before."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], str] = {}

    def earlier(self, entry: Entry) -> str | None:
        """The path by which the file came first."""
        return self._first.get((entry.status.st_dev, entry.status.st_ino))

    def came(self, path: str, status: os.stat_result) -> None:
        """Remember a file."""
        if status.st_nlink > 1:
            self._first[status.st_dev, status.st_ino] = path


def line(path: str, kind: str, status: os.stat_result, **more: Any) -> bytes:
    """An entry's line of the manifest."""
    values = {
        "path": path,
        "type": kind,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mtime": _time(status.st_mtime_ns),
        **more,
    }
    return _json(values)


def _json(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _time(nanoseconds: int) -> str:
    whole, rest = divmod(abs(nanoseconds), 10**9)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{rest:09d}"


def _nanoseconds(text: str) -> int:
    whole, _, rest = text.lstrip("-").partition(".")
    value = int(whole) * 10**9 + int((rest + "0" * 9)[:9])
    return -value if text.startswith("-") else value


# --- reading ------------------------------------------------------------------------------------


class Reader:
    """Writes an archive of a tree."""

    def __init__(self, out: _Plain | _Deflated) -> None:
        self._out = out
        self._links = Links()
        self._manifest: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._digest = hashlib.sha256()
        self._notes: list[tuple[str, str]] = []
        self._entries = self._bytes = self._left_out = 0
        self._waited = 0.0

    def run(self, top: str, header: str) -> None:
        """Write all of it."""
        about = header.encode()
        self._digest.update(about)
        self._own(HEADER, about)
        for entry in walk(top):
            self._entry(entry)
        for note, path in self._notes:
            self._line(_json({"note": note, "path": path}))
        last = {
            "bytes": self._bytes,
            "end": True,
            "entries": self._entries,
            "left_out": self._left_out,
            "sha256": self._digest.hexdigest(),
        }
        self._manifest.write(_json(last))
        size = self._manifest.tell()
        self._manifest.seek(0)
        self._out.write(_owned(MANIFEST, size))
        while chunk := self._manifest.read(_CHUNK):
            self._out.write(chunk)
        self._out.write(_padding(size))
        _done.set()
        self._out.write(_ZEROS[: 2 * _BLOCK])
        self._out.close()

    def _own(self, name: str, content: bytes) -> None:
        self._out.write(_owned(name, len(content)) + content + _padding(len(content)))

    def _line(self, text: bytes) -> None:
        self._manifest.write(text)
        self._digest.update(text)

    def _entry(self, entry: Entry) -> None:
        mode = entry.status.st_mode
        if stat.S_ISDIR(mode):
            self._out.write(_member(entry.path, tarfile.DIRTYPE, entry.status))
            self._add(line(entry.path, "folder", entry.status))
        elif stat.S_ISLNK(mode):
            target = os.readlink(entry.name, dir_fd=entry.folder)
            self._out.write(_member(entry.path, tarfile.SYMTYPE, entry.status, target=target))
            self._add(line(entry.path, "symlink", entry.status, target=target))
        elif not stat.S_ISREG(mode):
            self._left_out += 1
        elif (first := self._links.earlier(entry)) is not None:
            self._out.write(_member(entry.path, tarfile.LNKTYPE, entry.status, target=first))
            self._add(line(entry.path, "link", entry.status, target=first))
        elif entry.status.st_size > _WHOLE:
            self._large(entry)
        else:
            self._small(entry)

    def _add(self, text: bytes) -> None:
        self._line(text)
        self._entries += 1

    def _file(self, path: str, status: os.stat_result, digest: str, note: str) -> None:
        size = status.st_size
        self._links.came(path, status)
        self._add(line(path, "file", status, size=size, sha256=digest))
        self._bytes += size
        if note:
            self._notes.append((note, path))

    def _small(self, entry: Entry) -> None:
        found = self._settled(entry)
        if found is None:
            return
        status, content, note = found
        self._out.write(_member(entry.path, tarfile.REGTYPE, status, size=len(content)))
        self._out.write(content)
        self._out.write(_padding(len(content)))
        self._file(entry.path, status, hashlib.sha256(content).hexdigest(), note)

    def _settled(self, entry: Entry) -> tuple[os.stat_result, bytes, str] | None:
        """A file as it is while nobody writes it: status, content, what is wrong with it."""
        begun, before = time.monotonic(), b""
        for attempt in itertools.count():
            looked = _look(entry)
            if looked is None:
                return None
            status, content, steady = looked
            broken = entry.name.endswith(".ipynb") and not _is_json(content)
            # with a copy beside it somebody saves it just now; without, it never was a notebook
            saving = broken and _is_there(f".~{entry.name}", entry.folder)
            if steady and (not broken or (not saving and attempt and content == before)):
                return status, content, ""
            waited = time.monotonic() - begun
            if waited > _PATIENCE or self._waited + waited > _ALL_PATIENCE:
                self._waited += waited
                return status, content, "unfinished" if saving and steady else "changed"
            before = content
            time.sleep(min(0.02 * 2**attempt, 0.25))
        return None

    def _large(self, entry: Entry) -> None:
        status, digest = entry.status, ""
        for attempt in range(1, _LARGE_TRIES + 1):
            with _opened(entry) as file:
                if file is None:
                    # what came of it already has to be in the manifest
                    if digest:
                        self._file(entry.path, status, digest, "changed")
                    return
                status = os.fstat(file)
                self._out.write(_member(entry.path, tarfile.REGTYPE, status, size=status.st_size))
                digest = self._stream(file, status.st_size)
                steady = _is_steady(entry, file, status)
            if steady or attempt == _LARGE_TRIES:
                self._file(entry.path, status, digest, "" if steady else "changed")
                return

    def _stream(self, file: int, size: int) -> str:
        digest, left = hashlib.sha256(), size
        while left:
            # a file that got shorter is filled up: its header is on its way
            chunk = os.read(file, min(left, _CHUNK)) or _ZEROS[: min(left, _CHUNK)]
            digest.update(chunk)
            self._out.write(chunk)
            left -= len(chunk)
        self._out.write(_padding(size))
        return digest.hexdigest()


@contextlib.contextmanager
def _opened(entry: Entry) -> Iterator[int | None]:
    """The file open for reading; None where it is gone, or no file any more."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.open(entry.name, flags, dir_fd=entry.folder)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
            raise
        yield None
        return
    try:
        yield file if stat.S_ISREG(os.fstat(file).st_mode) else None
    finally:
        os.close(file)


def _look(entry: Entry) -> tuple[os.stat_result, bytes, bool] | None:
    """A small file's status, content, and whether both belong together; None when it is gone."""
    with _opened(entry) as file:
        if file is None:
            return None
        status = os.fstat(file)
        parts, left = [], status.st_size
        while left and (chunk := os.read(file, left)):
            parts.append(chunk)
            left -= len(chunk)
        # shorter by now: the status must say what comes, and it comes again or is marked
        content = b"".join(parts) + bytes(left)
        return status, content, _is_steady(entry, file, status)


def _is_steady(entry: Entry, file: int, status: os.stat_result) -> bool:
    now = time.time_ns()
    try:
        named = os.lstat(entry.name, dir_fd=entry.folder)
    except FileNotFoundError:
        return True  # gone, and whole as it was
    fresh = 0 <= now - status.st_ctime_ns < _STEP_NS
    return not fresh and _version(os.fstat(file)) == _version(named) == _version(status)


def _version(status: os.stat_result) -> tuple[int, int, int, int, int]:
    s = status
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns


def _is_there(name: str, folder: int) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except OSError:
        return False
    return True


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _member(
    path: str, kind: bytes, status: os.stat_result, *, size: int = 0, target: str = ""
) -> bytes:
    """A tar header; what an old header has no room for comes as pax records."""
    info = tarfile.TarInfo(path)
    info.type, info.size, info.linkname = kind, size, target
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid = status.st_uid, status.st_gid
    # the old header's has no fractions
    info.mtime = max(0, status.st_mtime_ns // 10**9)
    info.pax_headers = {"mtime": _time(status.st_mtime_ns)}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _owned(name: str, size: int) -> bytes:
    """The header of a member that is ours and no file of the tree."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return _ZEROS[: -size % _BLOCK]


# --- writing ------------------------------------------------------------------------------------


class _Folder(NamedTuple):
    path: str
    file: int
    info: tarfile.TarInfo


def write(top: str, read: Read, mapping: dict[str, dict[str, int]]) -> None:
    """Put an archive's tree into an empty folder.

    Args:
        top: the folder.
        read: gives so many bytes of the archive at most; none at its end.
        mapping: `uid` and `gid`: owners of the archive to others, by their number as text.
    """
    if os.listdir(top):  # noqa: PTH208
        raise ValueError("the folder is not empty")
    owners = _Owners(mapping)
    stack: list[_Folder] = []
    last = ""
    source: Any = _Source(read)
    archive: Any = tarfile.open(  # noqa: SIM115
        fileobj=source, mode="r|", bufsize=_CHUNK, encoding="utf-8", errors="surrogateescape"
    )
    while (info := archive.next()) is not None:
        archive.members.clear()  # else it keeps them all
        if info.name in {HEADER, MANIFEST}:
            last = info.name
            continue
        parent = info.name.rpartition("/")[0]
        while stack and stack[-1].path != parent:
            _finish(stack.pop(), owners)
        if stack:
            _put(archive, info, stack, owners, again=info.name == last)
        elif info.name == TOP and info.isdir():
            stack.append(_Folder(TOP, os.open(top, os.O_RDONLY | os.O_DIRECTORY), info))
        else:
            raise ValueError(f"{info.name!r} has no folder")
        last = info.name
    while stack:
        _finish(stack.pop(), owners)
    if last != MANIFEST:
        raise ValueError("the archive ends too early")
    os.sync()


class _Owners:
    def __init__(self, mapping: dict[str, dict[str, int]]) -> None:
        self._uids, self._gids = mapping.get("uid", {}), mapping.get("gid", {})

    def of(self, info: tarfile.TarInfo) -> tuple[int, int]:
        uid, gid = info.uid, info.gid
        return self._uids.get(str(uid), uid), self._gids.get(str(gid), gid)


def _put(
    archive: Any, info: tarfile.TarInfo, stack: list[_Folder], owners: _Owners, *,
    again: bool,
) -> None:  # fmt: skip
    folder, name = stack[-1].file, info.name.rpartition("/")[2]
    if name in {"", ".", ".."}:
        raise ValueError(f"{info.name!r} is no name")
    if info.isdir():
        os.mkdir(name, 0o700, dir_fd=folder)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        stack.append(_Folder(info.name, os.open(name, flags, dir_fd=folder), info))
    elif info.issym():
        os.symlink(info.linkname, name, dir_fd=folder)
        os.chown(name, *owners.of(info), dir_fd=folder, follow_symlinks=False)
        os.utime(name, ns=_times(info), dir_fd=folder, follow_symlinks=False)
    elif info.islnk():
        first = info.linkname.partition("/")[2]
        os.link(first, name, src_dir_fd=stack[0].file, dst_dir_fd=folder, follow_symlinks=False)
    elif info.isreg():
        if again:
            os.unlink(name, dir_fd=folder)
        content = archive.extractfile(info)
        assert content is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        file = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            _fill(file, content, info.size)
            _set(file, info, owners)
        except OSError as error:
            raise OSError(error.errno, error.strerror, info.name) from None
        finally:
            os.close(file)
    else:
        raise ValueError(f"{info.name!r} is of a kind that no backup has")


def _fill(file: int, content: IO[bytes], size: int) -> None:
    """Write a file's content; long runs of zeros become holes."""
    done = 0
    while chunk := content.read(_CHUNK):
        for start in range(0, len(chunk), _HOLE):
            part = memoryview(chunk)[start : start + _HOLE]
            if part == memoryview(_ZEROS)[: len(part)]:
                os.lseek(file, len(part), os.SEEK_CUR)
                continue
            while part:
                part = part[os.write(file, part) :]
        done += len(chunk)
    if done != size:
        raise ValueError("the archive ends too early")
    os.ftruncate(file, size)


def _finish(folder: _Folder, owners: _Owners) -> None:
    """A folder's own values, once nothing comes into it any more."""
    _set(folder.file, folder.info, owners)
    os.close(folder.file)


def _set(file: int, info: tarfile.TarInfo, owners: _Owners) -> None:
    os.fchown(file, *owners.of(info))
    os.fchmod(file, info.mode)
    os.utime(file, ns=_times(info))


def _times(info: tarfile.TarInfo) -> tuple[int, int]:
    text = info.pax_headers.get("mtime")
    nanoseconds = _nanoseconds(text) if text else int(info.mtime) * 10**9
    return nanoseconds, nanoseconds


def list_tree(top: str, out: BinaryIO) -> None:
    """Write the manifest's line of each entry of a tree that nobody changes."""
    links = Links()
    for entry in walk(top):
        status, kind = entry.status, "file"
        more: dict[str, Any] = {}
        if stat.S_ISDIR(status.st_mode):
            kind = "folder"
        elif stat.S_ISLNK(status.st_mode):
            kind, more = "symlink", {"target": os.readlink(entry.name, dir_fd=entry.folder)}
        elif (first := links.earlier(entry)) is not None:
            kind, more = "link", {"target": first}
        else:
            links.came(entry.path, status)
            more = {"size": status.st_size, "sha256": _digest_of(entry)}
        out.write(line(entry.path, kind, status, **more))


def _digest_of(entry: Entry) -> str:
    digest = hashlib.sha256()
    with _opened(entry) as file:
        while file is not None and (chunk := os.read(file, _CHUNK)):
            digest.update(chunk)
    return digest.hexdigest()


# --- the way in and out -------------------------------------------------------------------------


class _Plain:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, content: bytes) -> None:
        self._file.write(content)

    def close(self) -> None:
        self._file.flush()


class _Deflated:
    """Compressed a little: most lines are slower than that."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packer = zlib.compressobj(1)

    def write(self, content: bytes) -> None:
        if packed := self._packer.compress(content):
            self._file.write(packed)

    def close(self) -> None:
        self._file.write(self._packer.flush())
        self._file.flush()


class _Inflated:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpacker = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._file.read1(_CHUNK)  # type: ignore[attr-defined]
            content = self._unpacker.decompress(packed, size)
            if content or not packed:
                return content
        return b""


class _Source:
    """What tarfile takes for a file."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def read(self, size: int) -> bytes:
        return self._read(size)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
