"""Archives: a whole one is read, and none that lacks or changes a byte."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from jupbox import backup
from jupbox.errors import BackupError
from tests.backups import about, archive_of, checked

BLOCK = 512


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A home directory with one of each kind."""
    home = tmp_path / "home"
    (home / "notebooks" / "old").mkdir(parents=True)
    (home / "notebooks" / "a.ipynb").write_text('{"cells": []}')
    (home / "notebooks" / ".~a.ipynb").write_text("{}")
    (home / "empty").touch()
    os.link(home / "empty", home / "hard")
    (home / "soft").symlink_to("/nowhere")
    return home


@pytest.fixture
def archive(folder: Path) -> bytes:
    return archive_of(folder)


# --- whole ones ---------------------------------------------------------------------------------


def test_a_whole_archive_says_what_it_holds(archive: bytes) -> None:
    found, lines = checked(archive)
    assert found == backup.Checked(about=about(), entries=8, bytes=15, left_out=0, notes=())
    entries = {values["path"]: values for values in map(json.loads, lines)}
    assert [values["type"] for values in entries.values()] == [
        "folder", "file", "link", "folder", "file", "file", "folder", "symlink",
    ]  # fmt: skip
    assert entries["home/hard"]["target"] == "home/empty"
    assert entries["home/soft"]["target"] == "/nowhere"
    notebook = entries["home/notebooks/a.ipynb"]
    assert notebook["sha256"] == hashlib.sha256(b'{"cells": []}').hexdigest()


def test_odd_names_owners_and_times_come_through(tmp_path: Path) -> None:
    names = ["ü\n日本", "a" * 255, " ", "-rf", "\\", "ümläut" * 20, "%s{}$x", "a/" + "b" * 250]
    home = tmp_path / "home"
    (home / "a").mkdir(parents=True)
    for name in names:
        (home / name).write_text(name)
    os.close(os.open(os.fsencode(home) + b"/bad\xff", os.O_CREAT | os.O_WRONLY))
    os.utime(home / " ", ns=(0, -1_500_000_001))
    (home / "-rf").chmod(0o4751)
    _, lines = checked(archive_of(home))
    entries = {values["path"]: values for values in map(json.loads, lines)}
    assert entries.keys() >= {f"home/{name}" for name in names}
    assert "home/bad\udcff" in entries
    assert entries["home/ "]["mtime"] == "-1.500000001"
    assert entries["home/-rf"]["mode"] == "4751"


def test_gnu_tars_own_reader_takes_it(archive: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
        kept = tar.extractfile("home/notebooks/a.ipynb")
        assert kept is not None and kept.read() == b'{"cells": []}'
    assert (names[0], names[1], names[-1]) == (
        "jupbox-backup.json", "home", "jupbox-manifest.jsonl",
    )  # fmt: skip


def test_sockets_and_pipes_are_left_out_and_counted(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    found, lines = checked(archive_of(folder))
    assert (found.left_out, len(lines)) == (1, 8)


# --- damaged ones -------------------------------------------------------------------------------


def refused(content: bytes) -> bool:
    try:
        checked(content)
    except BackupError:
        return True
    return False


def test_an_archive_that_was_cut_off_anywhere_is_refused(archive: bytes) -> None:
    cuts = {*range(0, len(archive), 97)}
    cuts |= {at + by for at in range(0, len(archive), BLOCK) for by in (-1, 0, 1)}
    cuts |= {*range(len(archive) - 2 * BLOCK, len(archive))}
    taken = [cut for cut in sorted(cuts) if 0 <= cut < len(archive) and not refused(archive[:cut])]
    assert taken == []


def test_an_archive_with_any_bit_flipped_is_refused(archive: bytes) -> None:
    taken = []
    for at in range(0, len(archive), 5):
        flipped = bytearray(archive)
        flipped[at] ^= 1 << (at % 8)
        if not refused(bytes(flipped)):
            taken.append(at)
    assert taken == []


def test_an_archive_with_more_behind_it_is_refused(archive: bytes) -> None:
    for more in (b"x", bytes(BLOCK), archive):
        assert refused(archive + more)


def test_no_archive_at_all_is_refused() -> None:
    for content in (b"", b"x", bytes(10 * BLOCK), b"PK\x03\x04" * 300):
        assert refused(content)


# --- those that somebody made --------------------------------------------------------------------


def made(
    *members: tuple[str, bytes, dict[str, Any]], lines: list[bytes] | None = None, **said: Any
) -> bytes:
    """An archive of these members, with a manifest that fits them, or with these lines and end."""
    out = io.BytesIO()
    text = about().text().encode()

    def add(name: str, content: bytes, **changes: Any) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.mode, info.size = 0o644, len(content)
        for key, value in changes.items():
            setattr(info, key, value)
        info.pax_headers = {"mtime": "1.000000000"}
        out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        out.write(content + bytes(-len(content) % BLOCK))
        return info

    add("jupbox-backup.json", text)
    fitting, total = [], 0
    for name, content, changes in members:
        info = add(name, content, **changes)
        kinds = {b"0": "file", b"1": "link", b"2": "symlink", b"5": "folder"}
        values: dict[str, Any] = {
            "path": name, "type": kinds.get(info.type, "file"), "mode": f"{info.mode:04o}",
            "uid": 0, "gid": 0, "mtime": "1.000000000",
        }  # fmt: skip
        if info.type == b"0":
            values |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            total += len(content)
        elif info.type != b"5":
            values["target"] = info.linkname
        fitting.append(json.dumps(values, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    told = b"".join(fitting if lines is None else lines)
    last = {
        "bytes": total, "end": True, "entries": len(members), "left_out": 0,
        "sha256": hashlib.sha256(text + told).hexdigest(), **said,
    }  # fmt: skip
    told += json.dumps(last, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    add("jupbox-manifest.jsonl", told)
    return out.getvalue() + bytes(2 * BLOCK)


TOP = ("home", b"", {"type": b"5"})
FILE = ("home/a", b"text", {})


def test_the_archives_made_here_would_be_taken() -> None:
    found, _ = checked(made(TOP, FILE, ("home/b", b"", {"type": b"1", "linkname": "home/a"})))
    assert (found.entries, found.bytes) == (3, 4)


@pytest.mark.parametrize(
    "members",
    [
        [FILE],
        [TOP, ("/etc/passwd", b"", {})],
        [TOP, ("etc", b"", {})],
        [TOP, ("home/../etc", b"", {})],
        [TOP, ("home/..", b"", {"type": b"5"})],
        [TOP, ("home/./a", b"", {})],
        [TOP, ("home//a", b"", {})],
        [TOP, FILE, ("home/a", b"", {"type": b"5"})],
        [TOP, ("home/b", b"", {}), FILE],
        [TOP, FILE, ("home/a/b", b"", {})],
        [TOP, ("home/x/y", b"", {})],
        [TOP, ("home/s", b"", {"type": b"2", "linkname": "/etc"}), ("home/s/passwd", b"", {})],
        [TOP, ("home/s", b"", {"type": b"2", "linkname": "/x"}), ("home/s", b"", {})],
        [TOP, ("home/h", b"", {"type": b"1", "linkname": "/etc/passwd"})],
        [TOP, ("home/h", b"", {"type": b"1", "linkname": "home/nothing"})],
        [TOP, ("home/n", b"", {"type": b"3"})],
        [TOP, ("home/n", b"", {"type": b"6"})],
        [TOP, FILE, TOP],
        [("home", b"", {})],
        [("home", b"", {"type": b"2", "linkname": "/"})],
        [TOP, ("jupbox-backup.json", b"", {})],
        [],
    ],
)
def test_what_leads_out_or_comes_twice_is_refused(members: list[Any]) -> None:
    """A folder comes before what is in it, and a link is no folder."""
    assert refused(made(*members))


def test_the_last_try_of_a_file_that_changed_counts() -> None:
    _, lines = checked(made(TOP, FILE))
    found, kept = checked(made(TOP, ("home/a", b"te", {}), FILE, lines=lines, entries=2, bytes=4))
    assert (found.entries, found.bytes, kept) == (2, 4, lines)
    assert refused(made(TOP, ("home/a", b"te", {}), FILE))
    assert refused(made(TOP, FILE, ("home/a", b"te", {}), lines=lines, entries=2, bytes=4))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda lines: lines[:1], "manifest"),
        (lambda lines: [*lines, lines[-1]], "manifest"),
        (lambda lines: lines[::-1], "of other files"),
        (lambda lines: [lines[0], lines[1].replace(b'"0644"', b'"0755"')], "a is not what"),
        (lambda lines: [lines[0], b"no JSON\n"], "of other files"),
        (lambda lines: [*lines, b'{"note":"changed"}\n'], "manifest"),
        (lambda lines: [*lines, b"[1]\n"], "manifest"),
    ],
)
def test_a_manifest_of_something_else_is_refused(
    change: Callable[[list[bytes]], list[bytes]], why: str
) -> None:
    _, lines = checked(made(TOP, FILE))
    with pytest.raises(BackupError, match=why) as error:
        checked(made(TOP, FILE, lines=change(lines)))
    assert error.value.remedy.startswith("Nothing was changed.")


def test_an_archive_of_a_newer_format_says_so(folder: Path) -> None:
    with pytest.raises(BackupError, match="newer jupbox"):
        checked(archive_of(folder, format=2))


# --- what is unpacked -----------------------------------------------------------------------------


def line(**changes: Any) -> bytes:
    values = {"path": "home/a", "uid": 1, "gid": 1, "mtime": "1.5", "type": "file"}
    return json.dumps(values | changes).encode() + b"\n"


def test_an_unpacked_entry_is_the_same_but_for_owners_and_fractions() -> None:
    owners = {"uid": {1: 1500}, "gid": {}}
    assert backup.is_same(line(), line(), {})
    assert backup.is_same(line(), line(uid=1500, mtime="1.0"), owners)
    assert not backup.is_same(line(), line(), owners)
    assert not backup.is_same(line(), line(uid=1500, gid=1500), owners)
    assert not backup.is_same(line(), line(mtime="2.5"), {})
    assert not backup.is_same(line(), line(type="folder"), {})


def test_a_backups_name_has_the_box_and_the_time_in_utc() -> None:
    now = datetime(2026, 3, 1, 19, 5, 9, tzinfo=timezone(timedelta(hours=1)))
    assert backup.file_name("workbox", now) == "workbox-20260301T180509Z.tar.zst"
    assert backup.file_name("a", datetime(2026, 1, 1, tzinfo=UTC)) == "a-20260101T000000Z.tar.zst"


def test_a_path_in_a_message_is_one_line_of_what_can_be_shown() -> None:
    assert backup.shown("home/notebooks/a b.ipynb") == "notebooks/a b.ipynb"
    assert backup.shown("home/a\nb\udcff") == r"'a\nb\udcff'"
    assert backup.shown("home") == "home"
