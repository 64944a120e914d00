"""The script that reads and writes volumes, as the process that it is in its container."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jupbox.backup import Checked, check
from tests.backups import SCRIPT, about, archive_of, checked, volume

_LARGE = volume._WHOLE + 1


def run(verb: str, folder: Path, told: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-X", "utf8", "-c", SCRIPT.read_text(), verb, str(folder)]
    return subprocess.Popen(
        [*command, told, *more],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def read(folder: Path) -> bytes:
    with run("read", folder, about().text()) as process:
        assert process.stdout is not None
        archive = process.stdout.read()
    assert process.returncode == 0
    return archive


def write(folder: Path, archive: bytes, **owners: Any) -> tuple[int, list[bytes], dict[str, Any]]:
    folder.mkdir()
    with run("write", folder, json.dumps(owners)) as process:
        out, said = process.communicate(archive)
    return process.returncode, out.splitlines(keepends=True), json.loads(said or b"{}")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "long").symlink_to("x" * 200)
    (folder / "a" / ("ü" * 120)).write_text("text")
    os.link(folder / "a" / ("ü" * 120), folder / "z\n")
    os.utime(folder / "a" / "b", ns=(1, 1_600_000_000_123_456_789))
    (folder / "a" / "b").chmod(0o1711)
    (folder / "a" / "b").chmod(0o555)
    return folder


def test_what_is_written_is_what_was_read(home: Path, tmp_path: Path) -> None:
    archive = read(home)
    _, lines = checked(archive)
    code, found, said = write(tmp_path / "new", archive)
    assert (code, said, found) == (0, {}, lines)
    assert archive_of(tmp_path / "new") == archive_of(home) == archive
    assert (tmp_path / "new" / "z\n").stat().st_nlink == 2


def test_a_stream_may_be_compressed_both_ways(home: Path, tmp_path: Path) -> None:
    with run("read", home, about().text(), "packed") as process:
        assert process.stdout is not None
        packed = process.stdout.read()
    (tmp_path / "new").mkdir()
    with run("write", tmp_path / "new", "{}", "packed") as process:
        process.communicate(packed)
    assert process.returncode == 0
    assert archive_of(tmp_path / "new") == archive_of(home)


def test_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (home / "sparse").open("wb") as file:
        file.truncate(200 << 20)
        file.seek(100 << 20)
        file.write(b"in the middle" * 10_000)
    code, *_ = write(tmp_path / "new", read(home))
    new = (tmp_path / "new" / "sparse").stat()
    assert (code, new.st_size) == (0, 200 << 20)
    assert new.st_blocks * 512 < 1 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_become_others_where_that_is_asked_for(home: Path, tmp_path: Path) -> None:
    os.chown(home / "a", 1234, 1235)
    code, *_ = write(tmp_path / "new", read(home), uid={"1234": 1500}, gid={"1235": 1501})
    new = (tmp_path / "new" / "a").stat()
    assert (code, new.st_uid, new.st_gid) == (0, 1500, 1501)
    assert (tmp_path / "new").stat().st_uid == 0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1])
def test_half_an_archive_is_a_failure_that_says_so(
    home: Path, tmp_path: Path, share: float
) -> None:
    archive = read(home)
    cut = archive[: min(int(len(archive) * share), len(archive) - 3 * 512)]
    code, found, said = write(tmp_path / "new", cut)
    assert (code, found) == (1, [])
    assert said["error"]


def test_a_folder_that_is_not_empty_is_left_alone(home: Path, tmp_path: Path) -> None:
    archive, before = archive_of(home), archive_of(home)
    with run("write", home, "{}") as process:
        process.communicate(archive)
    assert (process.returncode, archive_of(home)) == (1, before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_reader_that_nobody_listens_to_any_more_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (home / "large").open("wb") as file:
        file.truncate(1 << 40)
    with run("read", home, about().text()) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.read(1 << 20)
        process.stdin.close()
        assert process.wait(timeout=30) == volume.ABANDONED


# --- while somebody writes ----------------------------------------------------------------------


def notebook(number: int) -> bytes:
    cells = [{"source": f"{number}", "outputs": ["x" * 4000]}] * 50
    return json.dumps({"cells": cells}).encode()


@contextmanager
def saving(*paths: Path) -> Iterator[None]:
    """Somebody saves notebooks as Jupyter does, one after the other, until the end."""
    code = (
        "import json, pathlib, shutil, sys, time\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    for name in sys.argv[1:]:\n"
        "        path = pathlib.Path(name); copy = path.with_name('.~' + path.name)\n"
        "        shutil.copyfile(path, copy)\n"
        "        cells = [{'source': str(number), 'outputs': ['x' * 4000]}] * 50\n"
        "        text = json.dumps({'cells': cells})\n"
        "        with open(path, 'w') as file:\n"
        "            for start in range(0, len(text), 20000):\n"
        "                file.write(text[start:start + 20000]); file.flush(); time.sleep(0.001)\n"
        "        copy.unlink()\n"
        "        time.sleep(0.03)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, *map(str, paths)]) as process:
        try:
            yield
        finally:
            process.kill()


def files(archive: bytes) -> dict[str, bytes]:
    """Contents by name."""
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {m.name: opened.read() for m in tar if (opened := tar.extractfile(m))}


def test_a_notebook_that_is_saved_meanwhile_is_whole(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    paths = [home / f"{name}.ipynb" for name in "abc"]
    for path in paths:
        path.write_bytes(notebook(0))
    with saving(*paths):
        archives = [read(home) for _ in range(8)]
    seen = set()
    for archive in archives:
        found, _ = checked(archive)
        assert found.notes == ()
        inside = files(archive)
        for path in paths:
            cells = json.loads(inside[f"home/{path.name}"])["cells"]
            assert len({cell["source"] for cell in cells}) == 1
            seen.add(cells[0]["source"])
    assert len(seen) > 1, "nobody wrote"


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.2) -> None:
    monkeypatch.setattr(volume, "_PATIENCE", seconds)


def test_a_save_that_never_ended_is_marked_and_its_copy_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    (home / "a.ipynb").write_bytes(notebook(2)[:5000])
    (home / ".~a.ipynb").write_bytes(notebook(1))
    archive = archive_of(home)
    found, _ = checked(archive)
    assert found.notes == (("unfinished", "home/a.ipynb"),)
    assert files(archive)["home/.~a.ipynb"] == notebook(1)


def test_what_never_was_a_notebook_is_taken_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "a.ipynb").write_text("no JSON")
    found, _ = checked(archive_of(home))
    assert found.notes == ()


@contextmanager
def growing(path: Path) -> Iterator[None]:
    """Something is appended to a file all the time."""
    end = threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not end.is_set():
                file.write(b"x" * 1000)
                file.flush()

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize("size", [1000, _LARGE])
def test_a_file_that_changes_all_the_time_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    impatient(monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    with (home / "log").open("wb") as file:
        file.truncate(size)
    with growing(home / "log"):
        found, lines = checked(archive_of(home))
    assert found.notes == (("changed", "home/log"),)
    assert (found.entries, len(lines)) == (2, 2)


def test_a_large_file_that_settles_comes_once_more_and_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = home / "large"
    with path.open("wb") as file:
        file.truncate(_LARGE)
    real, done = volume._is_steady, []

    def once(*arguments: Any) -> bool:
        if not done:
            done.append(True)
            with path.open("r+b") as file:
                file.write(b"changed")
        return bool(real(*arguments))

    monkeypatch.setattr(volume, "_is_steady", once)
    # written just now, and looked at in the same step of the clock
    monkeypatch.setattr(volume, "_STEP_NS", 0)
    archive = archive_of(home)
    found, _ = checked(archive)
    assert (found.notes, found.bytes, found.entries) == ((), _LARGE, 2)
    assert len(archive) > 2 * _LARGE
    code, *_ = write(tmp_path / "new", archive)
    assert (code, (tmp_path / "new" / "large").read_bytes()[:7]) == (0, b"changed")


def test_what_vanishes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "folder" / "below").mkdir(parents=True)
    for name in ("a", "b", "folder/c"):
        (home / name).write_text(name)
    real = os.lstat

    def lstat(name: str, **options: Any) -> os.stat_result:
        status = real(name, **options)
        if name == "a":
            (home / "a").unlink()
        if name == "folder":
            (home / "folder" / "c").unlink()
            (home / "folder" / "below").rmdir()
            (home / "folder").rmdir()
        return status

    monkeypatch.setattr(os, "lstat", lstat)
    _, lines = checked(archive_of(home))
    assert [json.loads(line)["path"] for line in lines] == ["home", "home/b", "home/folder"]


def test_the_memory_does_not_grow_with_a_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (home / "huge").open("wb") as file:
        file.truncate(700 << 20)
    code = (
        "import resource, sys, runpy\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n"
        "runpy.run_path(sys.argv[1], run_name='volume')['Reader'](\n"
        "    runpy.run_path(sys.argv[1], run_name='volume')['_Plain'](sys.stdout.buffer)\n"
        ").run(sys.argv[2], sys.argv[3])\n"
    )
    command = [sys.executable, "-c", code, str(SCRIPT), str(home), about().text()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found: Checked = check(process.stdout.read, lines=io.BytesIO(), source="x")
    assert (process.returncode, found.bytes) == (0, 700 << 20)
