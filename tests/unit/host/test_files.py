from __future__ import annotations

import html.parser
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from jupbox.errors import FilesError
from jupbox.host import files
from jupbox.host.files import redirect_file, runtime_directory, write_atomic


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_file_has_its_content_and_mode_whatever_the_umask(
    tmp_path: Path, mode: int, umask: int
) -> None:
    path = tmp_path / "file"
    before = os.umask(umask)
    try:
        write_atomic(path, b"content", mode=mode)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"content"
    assert mode_of(path) == mode
    assert list(tmp_path.iterdir()) == [path]


def test_mode_is_in_force_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    real = os.fchmod

    def spy(descriptor: int, mode: int) -> None:
        status = os.fstat(descriptor)
        seen.append((status.st_size, stat.S_IMODE(status.st_mode)))
        real(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", spy)
    write_atomic(tmp_path / "file", b"content", mode=0o644)
    assert seen == [(0, 0o600)]


def test_readers_see_the_old_or_the_new_content_and_nothing_between(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [b"a" * 300_000, b"b" * 300_000]
    write_atomic(path, contents[0], mode=0o600)
    done = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not done.is_set():
            if path.read_bytes() not in contents:
                torn.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for round_ in range(40):
            write_atomic(path, contents[round_ % 2], mode=0o600)
    finally:
        done.set()
        reader.join()
    assert torn == []


@pytest.mark.parametrize("failing", [(os, "fsync"), (Path, "replace")])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[object, str]
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old", mode=0o600)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*failing, full)
    with pytest.raises(FilesError, match="No space left"):
        write_atomic(path, b"new", mode=0o600)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_directory_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="No such file"):
        write_atomic(tmp_path / "missing" / "file", b"", mode=0o600)


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"of somebody else")
    link.symlink_to(target)
    write_atomic(link, b"ours", mode=0o600)
    assert target.read_bytes() == b"of somebody else"
    assert not link.is_symlink()


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory that is 0700 and not refused for the length of its path."""
    monkeypatch.setattr(files, "_RUNTIME_PATH_MAX", 1000)
    return tmp_path_factory.mktemp("run")


def test_runtime_directory_is_ours_alone_below_xdg_runtime_dir(short: Path) -> None:
    made = runtime_directory(environ={"XDG_RUNTIME_DIR": str(short)})
    assert made == short / "jupbox"
    assert mode_of(made) == 0o700
    assert runtime_directory(environ={"XDG_RUNTIME_DIR": str(short)}) == made


@pytest.mark.parametrize("given", ["", "relative/path", "/nonexistent/run", "/dev/null"])
def test_runtime_directory_falls_back_to_tmp(short: Path, given: str) -> None:
    made = runtime_directory(environ={"XDG_RUNTIME_DIR": given}, temporary=short)
    assert made == short / f"jupbox-{os.getuid()}"
    assert mode_of(made) == 0o700


def test_a_runtime_dir_that_others_may_write_is_not_used(short: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    made = runtime_directory(environ={"XDG_RUNTIME_DIR": str(tmp_path)}, temporary=short)
    assert made.parent == short


def test_a_runtime_dir_too_long_for_control_paths_is_not_used(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir(mode=0o700)
    other = tmp_path_factory.mktemp("other")
    made = runtime_directory(environ={"XDG_RUNTIME_DIR": str(long)}, temporary=other)
    assert made.parent == other


def test_a_link_in_the_directorys_place_is_refused(short: Path, tmp_path: Path) -> None:
    (short / f"jupbox-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(FilesError, match="not a directory that only you"):
        runtime_directory(environ={}, temporary=short)


def test_a_directory_of_somebody_else_is_refused(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short / "jupbox-4711").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(FilesError, match="not a directory that only you"):
        runtime_directory(environ={}, temporary=short)


def test_a_directory_that_others_could_fill_is_refused(short: Path) -> None:
    planted = short / f"jupbox-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o770)
    with pytest.raises(FilesError, match="not a directory that only you"):
        runtime_directory(environ={}, temporary=short)


def test_a_directory_that_others_could_only_read_is_closed(short: Path) -> None:
    made = short / f"jupbox-{os.getuid()}"
    made.mkdir()
    made.chmod(0o755)
    runtime_directory(environ={}, temporary=short)
    assert mode_of(made) == 0o700


class Page(html.parser.HTMLParser):
    """Collects where a page leads: its refresh and its link."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if found.get("http-equiv") == "refresh":
            self.targets.append((found["content"] or "").removeprefix("0;url="))
        if tag == "a":
            self.targets.append(found["href"] or "")


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost:8888/jupbox/login?code=abc&next=%2Flab",
        'https://localhost/"><script>alert(1)</script>',
        "https://localhost/{curly}'quoted'",
    ],
)
def test_redirect_page_leads_to_exactly_its_url(tmp_path: Path, url: str) -> None:
    path = redirect_file(tmp_path, url)
    page = Page(path.read_text())
    assert page.targets == [url, url]
    assert "script" not in page.tags
    assert mode_of(path) == 0o600
    assert path.suffix == ".html"


def test_redirect_page_has_a_new_name_each_time_and_no_code_in_it(tmp_path: Path) -> None:
    paths = [redirect_file(tmp_path, "https://localhost/?code=one-time") for _ in range(2)]
    assert paths[0] != paths[1]
    assert "one-time" not in str(paths)


def test_redirect_pages_that_nobody_removed_go_once_their_codes_are_dead(tmp_path: Path) -> None:
    old, young = (redirect_file(tmp_path, "https://localhost/?code=one-time") for _ in range(2))
    os.utime(old, (time.time() - 61, time.time() - 61))
    new = redirect_file(tmp_path, "https://localhost/?code=one-time")
    assert {young, new} == set(tmp_path.iterdir())
