"""What a flattened image holds: the list that its digest is of, read and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_KINDS: Final = {
    "f": "file", "d": "folder", "l": "link", "c": "device", "b": "device", "p": "pipe",
    "s": "socket",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One path of an image.

    Attributes:
        kind: in words.
        mode: octal.
        owner: `uid:gid`.
        time: of its last change, seconds since 1970.
        target: of a link.
        sha256: of a file's content.
    """

    kind: str
    mode: str
    owner: str
    time: int
    target: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A path that differs between two images, and in what."""

    path: str
    what: str


def parse_contents(data: bytes) -> Mapping[str, Entry]:
    """The entries of an image by path, from the list that images/build/digest.sh writes.

    Raises:
        ValueError: not such a list.
    """
    entries: dict[str, dict[str, str]] = {}
    for record in data.split(b"\0"):
        if not record:
            continue
        word, _, rest = record.decode("utf-8", "surrogateescape").partition(" ")
        if word == "ENTRY":
            time, kind, mode, uid, gid, path = rest.split(" ", 5)
            entries[path] = {
                "kind": _KINDS.get(kind, kind), "mode": mode, "owner": f"{uid}:{gid}", "time": time
            }  # fmt: skip
        elif word == "LINK":
            path, _, target = rest.partition(" -> ")
            entries[path]["target"] = target
        elif word == "FILE":
            sha256, _, path = rest.partition("  ")
            entries[path]["sha256"] = sha256
        else:
            raise ValueError("no list of an image's content")
    return {
        path.removeprefix("."): Entry(**{**given, "time": int(given["time"])})  # type: ignore[arg-type]
        for path, given in entries.items()
    }


def differences(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> tuple[Difference, ...]:
    """Every path that differs, sorted, each with what differs there."""
    found = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before is None:
            found.append(Difference(path=path, what="only in the second"))
        elif after is None:
            found.append(Difference(path=path, what="only in the first"))
        elif before != after:
            found.append(Difference(path=path, what=", ".join(_what(before, after))))
    return tuple(found)


def _what(before: Entry, after: Entry) -> Iterator[str]:
    if before.kind != after.kind:
        yield f"a {before.kind}, a {after.kind}"
    if before.mode != after.mode:
        yield f"mode {before.mode}, {after.mode}"
    if before.owner != after.owner:
        yield f"owner {before.owner}, {after.owner}"
    if before.time != after.time:
        yield f"time {_moment(before.time)}, {_moment(after.time)}"
    if before.target != after.target:
        yield f"leads to {before.target}, {after.target}"
    if before.sha256 != after.sha256:
        yield "content"


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
