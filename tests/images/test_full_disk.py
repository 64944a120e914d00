"""A full disk: the server starts, nothing is lost, and what is deleted makes room."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupbox_server import room
from jupbox_server.contents import copy_whole, whole_writing

from tests.images.box import Browser, until, value_of
from tests.images.conftest import serving

OLD = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


def _notebook(length: int) -> str:
    cell = {"cell_type": "raw", "id": "a", "metadata": {}, "source": "w" * length}
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps({"type": "notebook", "content": content})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "jupbox-test", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a disk to fill")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(path: Path) -> None:
    """Take all the room that there is, to the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)


def _home(folder: Path) -> Path:
    notebooks = folder / "home" / "notebooks"
    (notebooks / "data").mkdir(parents=True)
    (notebooks / "old.ipynb").write_text(OLD)
    (notebooks / "big.bin").write_bytes(b"b" * 2**20)
    (notebooks / "data" / "some.csv").write_bytes(b"d" * 1000)
    return folder / "home"


def test_on_a_full_disk_the_server_starts_and_what_is_deleted_makes_room(disk: Path) -> None:
    home = _home(disk)
    _fill(home / "fill")
    with serving(prepared=home) as server:
        browser = Browser(server=server, address="127.0.0.1")
        browser.log_in_by_control()
        assert browser.get("/lab").status == 200
        assert until(lambda: server.ask("summary")["disks"]) == [
            {
                "path": str(home),
                "free_bytes": 0,
                "total_bytes": 6 * 2**20,
                "nearly_full": True,
            }
        ]
        kernel = browser.open_kernel(browser.start_kernel())
        assert value_of(kernel, "6 * 7") == "42"
        kernel.close()
        assert browser.request("PUT", "/api/contents/old.ipynb", _notebook(300_000)).status == 500
        assert browser.request("PUT", "/api/contents/new.ipynb", _notebook(300_000)).status == 500
        found = sorted(path.name for path in (home / "notebooks").iterdir())
        assert found == ["big.bin", "data", "old.ipynb"]
        assert (home / "notebooks" / "old.ipynb").read_text() == OLD
        assert browser.request("DELETE", "/api/contents/data").status == 204
        assert browser.request("DELETE", "/api/contents/big.bin").status == 204
        assert os.statvfs(disk).f_bavail * 4096 >= 2**20
        assert browser.request("PUT", "/api/contents/old.ipynb", _notebook(300_000)).status == 200
        (home / "fill").unlink()
        until(lambda: not server.ask("summary")["disks"][0]["nearly_full"])
        until(lambda: "Deleted files go to the trash again" in server.log)
        assert browser.request("DELETE", "/api/contents/old.ipynb").status == 204
        assert [path.name for path in home.rglob("Trash/files/*")] == ["old.ipynb"]


def test_logins_outlive_a_restart_though_connection_files_are_in_memory(tmp_path: Path) -> None:
    home = _home(tmp_path)
    with serving(prepared=home) as server:
        kernel = server.ask("POST", "/api/kernels", "--body", "{}")["id"]
        browser = Browser(server=server, address="127.0.0.1")
        browser.log_in_by_control()
        assert (server.control.parent / "jupyter" / f"kernel-{kernel}.json").is_file()
        assert list(home.rglob("kernel-*.json")) == []
        server.stop()
        server.start()
        assert browser.may_enter()


@pytest.mark.parametrize(
    ("old", "new", "room_left"),
    [(500_000, 900_000, 700_000), (3000, 6000, 4096)],
    ids=["while it is written", "when it is flushed"],
)
def test_a_save_that_runs_out_of_room_leaves_the_whole_old_notebook(
    disk: Path, old: int, new: int, room_left: int
) -> None:
    path = disk / "old.ipynb"
    path.write_text("o" * old)
    _fill(disk / "fill")
    os.truncate(disk / "fill", (disk / "fill").stat().st_size - room_left)
    for _ in range(3):  # each finds what the one before left
        with pytest.raises(OSError, match="No space left"), whole_writing(str(path)) as file:
            file.write("n" * new)
        assert path.read_text() == "o" * old
        assert [each.name for each in disk.iterdir() if each.name != "fill"] == ["old.ipynb"]


# -- written whole, on any disk


@contextmanager
def _no_more_than(size: int) -> Iterator[None]:
    """No file of this process grows larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("linked", [False, True], ids=["plain", "with a second name"])
@pytest.mark.parametrize("length", [1500, 200_000], ids=["at the end", "in the middle"])
def test_what_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, *, length: int, linked: bool
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old" * 100)
    if linked:
        (tmp_path / "b.txt").hardlink_to(path)
    with _no_more_than(1000), pytest.raises(OSError, match="too large"):  # noqa: SIM117
        with whole_writing(str(path)) as file:
            file.write("n" * length)
    assert path.read_text() == "old" * 100
    assert list(tmp_path.glob(".~*")) == []


def test_a_file_keeps_its_mode_and_its_other_names(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to("a.txt")
    with whole_writing(str(tmp_path / "link")) as file:
        file.write("one\n")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("one\n", 0o640)
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "b.txt").hardlink_to(path)
    with whole_writing(str(path)) as file:
        file.write("two\n")
    assert (tmp_path / "b.txt").read_text() == "two\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.txt", "b.txt", "link"]


def test_a_new_file_has_the_usual_mode_and_none_is_left_of_one_that_fails(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_writing(str(tmp_path / "new"), text=False) as file:
            file.write(b"\r\n")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == b"\r\n"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    with pytest.raises(RuntimeError), whole_writing(str(tmp_path / "none")) as file:
        raise RuntimeError
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


def test_a_checkpoint_that_cannot_be_copied_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("n" * 5000)
    (tmp_path / "kept").write_text("old")
    with _no_more_than(1000), pytest.raises(OSError, match="too large"):
        copy_whole(str(tmp_path / "a"), str(tmp_path / "kept"))
    assert (tmp_path / "kept").read_text() == "old"
    copy_whole(str(tmp_path / "a"), str(tmp_path / "kept"))
    assert (tmp_path / "kept").read_text() == "n" * 5000


# -- what is nearly full


@pytest.mark.parametrize(
    ("free", "total", "near"),
    [
        (200 * 10**9, 4 * 10**12, False),
        (1.9e9, 4 * 10**12, True),
        (1.9e9, 10 * 10**9, False),
        (0.4e9, 10 * 10**9, True),
        (5 * 10**6, 6 * 10**6, False),
        (0, 6 * 10**6, True),
    ],
)
def test_a_disk_is_nearly_full_by_share_and_by_size(free: float, total: float, near: bool) -> None:
    look: Any = SimpleNamespace(
        f_bavail=free // 4096, f_blocks=total // 4096, f_frsize=4096, f_files=0, f_favail=0
    )
    assert room.is_nearly_full(look) is near


def test_a_disk_without_room_for_a_name_is_nearly_full() -> None:
    look: Any = SimpleNamespace(
        f_bavail=10**9, f_blocks=10**9, f_frsize=4096, f_files=1000, f_favail=9
    )
    assert room.is_nearly_full(look)


def test_a_folder_that_is_not_there_is_left_out_and_a_disk_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    found = room.measure([tmp_path, tmp_path / "in", tmp_path / "none"])
    assert [disk.path for disk in found] == [str(tmp_path)]
