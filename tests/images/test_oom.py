"""Out of memory, the children of the server go first."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupbox_server.oom import OomGuard, children, score_for

from tests.images.box import RunningServer, until


@pytest.mark.parametrize(
    ("own", "limit", "score"),
    [
        (200 * 2**20, 64 * 2**30, 10),
        (200 * 2**20, 2 * 2**30, 150),
        (200 * 2**20, 300 * 2**20, 1000),
        (2**30, 2**29, 1000),
    ],
)
def test_a_child_stands_above_the_server_by_no_more_than_it_takes(
    own: int, limit: int, score: int
) -> None:
    assert score_for(own, limit) == score
    assert score > 1000 * own / limit or score == 1000


@pytest.fixture
def child() -> Iterator[int]:
    """A process of this one."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.kill()
    process.communicate()


def _score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_children_get_the_score_and_nobody_else(tmp_path: Path, child: int) -> None:
    (tmp_path / "memory.current").write_text("1\n")
    (tmp_path / "memory.max").write_text(f"{2**31}\n")
    own = _score(os.getpid())
    assert child in children(os.getpid())
    guard = OomGuard(groups=tmp_path)
    guard.look()
    assert _score(child) > own
    assert _score(os.getpid()) == own
    # a larger limit that came while it runs: nobody else on the machine is worth less for it
    before = _score(child)
    (tmp_path / "memory.max").write_text(f"{2**40}\n")
    guard.look()
    assert _score(child) <= before


def test_a_process_that_ended_is_no_error(tmp_path: Path) -> None:
    assert children(2**22 + 1) == set()
    OomGuard(2**22 + 1, groups=tmp_path).look()


def test_a_kernels_score_is_above_the_servers(server: RunningServer) -> None:
    kernel = server.ask("POST", "/api/kernels", "--body", "{}")["id"]
    assert server.process is not None
    try:
        until(lambda: children(server.process.pid) if server.process else set())
        own = _score(server.process.pid)
        until(lambda: all(_score(pid) > own for pid in children(server.process.pid)))
    finally:
        server.ask("DELETE", f"/api/kernels/{kernel}")
