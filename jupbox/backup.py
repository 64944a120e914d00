"""What a backup is, and whether one is whole: every byte is looked at, and nothing is unpacked.

A backup is a zstd frame with a checksum. In it is a pax tar, which `tar --zstd -x` unpacks:
`jupbox-backup.json` says of which box it is and when it was made, `home` is the home directory with
all that is below it in the order of names, and `jupbox-manifest.jsonl` has a line for each entry
(with a file's SHA-256), one for each note, and a last one that counts and hashes the others. So a
backup that was cut off anywhere lacks the end that a whole one has. `images/backup/volume.py`
writes and unpacks it on the box.

The reader here takes that form alone, and no other tar: an entry has its folder before it, in which
nothing is a link, and its place in the order, so that nothing comes twice and nothing leads out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, Final, Literal, NoReturn

from jupbox.errors import BackupError

FORMAT: Final = 1
SUFFIX: Final = ".tar.zst"

_HEADER: Final = "jupbox-backup.json"
_MANIFEST: Final = "jupbox-manifest.jsonl"
_TOP: Final = "home"
_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_ZEROS: Final = bytes(_BLOCK)
# far more than any header of ours takes
_MOST_PAX: Final = 1 << 20
_MOST_HEADER: Final = 1 << 20
_MOST_LINE: Final = 1 << 20
_RECORDS: Final = {b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"hdrcharset"}
_KINDS: Final = {b"0": "file", b"1": "link", b"2": "symlink", b"5": "folder"}

Read = Callable[[int], bytes]
"""Gives so many bytes at most, none at the end."""
Note = Literal["changed", "unfinished"]
"""`changed`: while it was read; `unfinished`: a notebook in the middle of a save that never ended,
whose copy from before is beside it as `.~NAME`."""


@dataclass(frozen=True, kw_only=True)
class About:
    """Of what a backup is.

    Attributes:
        format: of the archive.
        account: the notebook's user as a label has it; empty where nobody knows it.
        made: UTC, ISO 8601.
        who: made it, and on which machine.
        version: jupbox's.
        lock: digest of the lock of the image that ran; empty for none.
        notebooks: `volume` where the notebooks are in it too, else the host's folder that they
            are in and the backup has not.
    """

    box: str
    stack: str
    owner: str
    account: str
    made: str
    who: str
    version: str
    lock: str
    notebooks: str
    format: int = FORMAT

    def text(self) -> str:
        """As it stands in the archive."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a whole backup holds.

    Attributes:
        entries: files, folders and links, the home directory itself too.
        bytes: of all files.
        left_out: sockets, pipes and devices that are not in it.
        notes: what was not settled when it was read, (what, path).
    """

    about: About
    entries: int
    bytes: int
    left_out: int
    notes: tuple[tuple[Note, str], ...]


def file_name(box: str, now: datetime) -> str:
    """What a backup is called where nobody says it: box and UTC time."""
    return f"{box}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}{SUFFIX}"


def check(read: Read, *, lines: IO[bytes], source: str) -> Checked:
    """Read an archive to its end, and every file in it, whatever their sizes.

    Args:
        read: the tar, unpacked.
        lines: an empty file; afterwards it has the manifest's line of each entry.
        source: how messages call it.

    Raises:
        BackupError: it is damaged, cut off, or none at all.
    """
    return _Checker(read, lines, source).run()


def is_same(wanted: bytes, found: bytes, owners: Mapping[str, Mapping[int, int]]) -> bool:
    """Whether an entry that was unpacked is the one of the manifest.

    Args:
        wanted: the manifest's line.
        found: the line of what is there.
        owners: `uid` and `gid`: numbers that became others.
    """
    if wanted == found and not any(owners.values()):
        return True
    one, other = json.loads(wanted), json.loads(found)
    for key in ("uid", "gid"):
        one[key] = owners.get(key, {}).get(one[key], one[key])
    for each in (one, other):
        # not every file system has fractions of seconds
        each["mtime"] = each["mtime"].partition(".")[0]
    return bool(one == other)


def path_of(line: bytes) -> str:
    """The path in a line of the manifest, as a message can show it."""
    return shown(json.loads(line)["path"])


def shown(path: str) -> str:
    """A path as a message can show it: below the home directory, odd characters escaped."""
    text = path.removeprefix(f"{_TOP}/")
    plain = text.isprintable() and not text.startswith(" ")
    return text if plain else ascii(text)


@dataclass(kw_only=True)
class _Member:
    """A member's header."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: str
    size: int
    target: str

    def line(self, digest: str) -> bytes:
        """The manifest's line of it."""
        values: dict[str, Any] = {
            "path": self.path,
            "type": self.kind,
            "mode": f"{self.mode:04o}",
            "uid": self.uid,
            "gid": self.gid,
            "mtime": self.mtime,
        }
        if self.kind == "file":
            values |= {"size": self.size, "sha256": digest}
        elif self.kind != "folder":
            values["target"] = self.target
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@dataclass
class _Checker:
    read: Read
    lines: IO[bytes]
    source: str
    last: tuple[bytes, ...] = ()
    held: tuple[_Member, bytes] | None = None
    folders: list[tuple[bytes, ...]] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    entries: int = 0
    total: int = 0

    def run(self) -> Checked:
        """See `check`."""
        text, about = self._about()
        while True:
            member = self._member()
            if (member.path, member.kind) == (_MANIFEST, "file"):
                break
            self._entry(member)
        self._keep()
        if not self.entries:
            self._damaged("it has no home directory")
        checked = self._manifest(member.size, text, about)
        if self._exactly(2 * _BLOCK) != _ZEROS * 2 or self.read(1):
            self._damaged("it has something after its end")
        return checked

    def _damaged(self, why: str) -> NoReturn:
        raise BackupError(
            f"{self.source} is no whole backup: {why}.",
            remedy="Nothing was changed. Take another backup, or copy this one anew.",
        )

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.read(size)
            if not part:
                self._damaged("it ends too early")
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- what it is of

    def _about(self) -> tuple[bytes, About]:
        first = self._member()
        if first.path != _HEADER or first.kind != "file" or first.size > _MOST_HEADER:
            self._damaged("it does not begin as one")
        text = self._exactly(first.size)
        self._padding(first.size)
        try:
            values = json.loads(text)
            number = values["format"]
            if number == FORMAT:
                return text, About(**values)
        except (ValueError, KeyError, TypeError):
            self._damaged("it does not say of what it is")
        raise BackupError(
            f"{self.source} is of a newer jupbox (format {number}).",
            remedy="Nothing was changed. Update jupbox on this machine.",
        )

    # -- members

    def _member(self) -> _Member:
        block, records = self._exactly(_BLOCK), {}
        if block[156:157] == b"x":
            size = self._number(block, 124, 12)
            self._look(block)
            if size > _MOST_PAX:
                self._damaged("a header is too large")
            records = self._records(self._exactly(size))
            self._padding(size)
            block = self._exactly(_BLOCK)
        self._look(block)
        kind = _KINDS.get(block[156:157])
        if kind is None:
            self._damaged("it holds what no backup does" if any(block) else "it ends too early")
        name = records.get("path", _text(block[:100]))
        member = _Member(
            path=name.removesuffix("/") if kind == "folder" else name,
            kind=kind,
            mode=self._number(block, 100, 8),
            uid=self._value(records, "uid", block, 108, 8),
            gid=self._value(records, "gid", block, 116, 8),
            mtime=records.get("mtime", ""),
            size=self._value(records, "size", block, 124, 12),
            target=records.get("linkpath", _text(block[157:257])),
        )
        if kind != "file" and member.size:
            self._damaged("a header does not fit what it is of")
        return member

    def _look(self, block: bytes) -> None:
        """Refuse a header that is damaged, or not of our making."""
        if not any(block):
            self._damaged("it ends too early")
        told = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        ours = block[257:265] == b"ustar\x0000" and not any(block[345:])
        if block[148:156] != b"%06o\0 " % told or not ours:
            self._damaged("a header is damaged")

    def _number(self, block: bytes, start: int, size: int) -> int:
        text = block[start : start + size].rstrip(b"\0 ")
        if not text.isdigit() or b"8" in text or b"9" in text:
            self._damaged("a header is damaged")
        return int(text, 8)

    def _value(
        self, records: Mapping[str, str], key: str, block: bytes, start: int, size: int
    ) -> int:
        if key not in records:
            return self._number(block, start, size)
        text = records[key]
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            self._damaged("a header is damaged")
        return int(text)

    def _records(self, content: bytes) -> dict[str, str]:
        found: dict[str, str] = {}
        while content:
            length, _, _ = content.partition(b" ")
            size = int(length) if length.isdigit() and len(length) < 8 else 0
            record, content = content[len(length) + 1 : size], content[size:]
            key, equals, value = record.partition(b"=")
            whole = len(length) + 1 + len(record) == size and value.endswith(b"\n")
            if not (equals and whole and key in _RECORDS):
                self._damaged("a header is damaged")
            found[_text(key)] = _text(value[:-1])
        return found

    def _padding(self, size: int) -> None:
        if any(self._exactly(-size % _BLOCK)):
            self._damaged("there is something between its files")

    def _entry(self, member: _Member) -> None:
        again = self._place(member)
        digest = ""
        if member.kind == "file":
            digest = self._content(member.size)
        if again:
            # it had changed while it was read; the last time counts
            assert self.held is not None
            self.total -= self.held[0].size
            self.held = None
        self._keep()
        self.held = (member, member.line(digest))
        self.total += member.size

    def _place(self, member: _Member) -> bool:
        """Look whether an entry may stand here; whether it is the last one once more."""
        parts = member.path.split("/")
        names = tuple(part.encode("utf-8", "surrogateescape") for part in parts)
        if parts[0] != _TOP or {"", ".", ".."} & set(parts) or "\0" in member.path:
            self._damaged(f"{shown(member.path)} would lead out of the home directory")
        if names == self.last and member.kind == "file":
            if self.held is None or self.held[0].kind != "file":
                self._damaged(f"{shown(member.path)} is in it twice")
            return True
        if names <= self.last:
            self._damaged(f"{shown(member.path)} is not in its place")
        while self.folders and self.folders[-1] != names[:-1]:
            self.folders.pop()
        if len(names) > 1 and not self.folders:
            self._damaged(f"{shown(member.path)} has no folder")
        if member.kind == "folder":
            self.folders.append(names)
        elif len(names) == 1:
            self._damaged("the home directory is no folder")
        elif member.kind == "file":
            self.files.add(member.path)
        elif member.kind == "link" and member.target not in self.files:
            self._damaged(f"{shown(member.path)} is a name of a file that it has not")
        self.last = names
        return False

    def _content(self, size: int) -> str:
        digest, left = hashlib.sha256(), size
        while left:
            part = self._exactly(min(left, _CHUNK))
            digest.update(part)
            left -= len(part)
        self._padding(size)
        return digest.hexdigest()

    def _keep(self) -> None:
        if self.held:
            self.lines.write(self.held[1])
            self.entries += 1
        self.held = None

    # -- the manifest

    def _manifest(self, size: int, text: bytes, about: About) -> Checked:
        lines = _Lines(self, size)
        digest = hashlib.sha256(text)
        self.lines.seek(0)
        for mine in self.lines:
            line = lines.next()
            if line != mine:
                self._differs(mine, line)
            digest.update(line)
        notes: list[tuple[Note, str]] = []
        while True:
            line = lines.next()
            try:
                values = json.loads(line)
                if "end" in values:
                    break
                notes.append((values["note"], values["path"]))
            except (ValueError, KeyError, TypeError):
                self._damaged("its manifest is damaged")
            digest.update(line)
        wanted = {
            "bytes": self.total,
            "end": True,
            "entries": self.entries,
            "left_out": values.get("left_out"),
            "sha256": digest.hexdigest(),
        }
        if values != wanted or not isinstance(values["left_out"], int) or lines.left:
            self._damaged("its manifest is damaged")
        self._padding(size)
        return Checked(
            about=about,
            entries=self.entries,
            bytes=self.total,
            left_out=values["left_out"],
            notes=tuple(notes),
        )

    def _differs(self, mine: bytes, line: bytes) -> NoReturn:
        try:
            same = json.loads(line)["path"] == json.loads(mine)["path"]
        except (ValueError, KeyError, TypeError):
            same = False
        if same:
            self._damaged(f"{path_of(mine)} is not what its manifest says")
        self._damaged("its manifest is of other files")


class _Lines:
    """The lines of a member, none of them longer than one can be."""

    def __init__(self, checker: _Checker, size: int) -> None:
        self._checker = checker
        self._unread = size
        self._buffer = b""
        self._start = 0

    @property
    def left(self) -> bool:
        """Whether there is more."""
        return bool(self._unread or self._start < len(self._buffer))

    def next(self) -> bytes:
        """The next line with its end."""
        while (end := self._buffer.find(b"\n", self._start)) < 0:
            if not self._unread or len(self._buffer) - self._start > _MOST_LINE:
                self._checker._damaged("its manifest is damaged")
            part = self._checker._exactly(min(self._unread, _CHUNK))
            self._unread -= len(part)
            self._buffer, self._start = self._buffer[self._start :] + part, 0
        line = self._buffer[self._start : end + 1]
        self._start = end + 1
        return line


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")
