"""This computer, and the lock by which one process at a time changes something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jupbox.errors import BusyError
from jupbox.host import ssh
from jupbox.host.machine import LocalMachine

HOLD = """
import sys
from jupbox.host.machine import LocalMachine
with LocalMachine().exclusive("stack"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the locks is the test's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "jupbox"


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that ends with the test at the latest."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_second_one_is_refused_and_told_to_wait() -> None:
    with LocalMachine().exclusive("stack"):
        with (
            pytest.raises(BusyError, match="this machine") as caught,
            LocalMachine().exclusive("stack"),
        ):
            pass
        assert "Wait" in caught.value.remedy


def test_afterwards_the_next_one_is_let_in() -> None:
    with pytest.raises(KeyboardInterrupt), LocalMachine().exclusive("stack"):
        raise KeyboardInterrupt
    with LocalMachine().exclusive("stack"):
        pass


def test_another_stack_is_another_lock() -> None:
    with LocalMachine().exclusive("stack"), LocalMachine().exclusive("other"):
        pass


def test_nobody_else_sees_which_stacks_there_are(state: Path) -> None:
    with LocalMachine().exclusive("stack"):
        assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.real_process
def test_another_process_holds_it_until_it_ends_however_that_comes() -> None:
    with started(sys.executable, "-c", HOLD) as process:
        assert first_line(process) == b"held\n"
        with pytest.raises(BusyError), LocalMachine().exclusive("stack"):
            pass
        process.kill()
        process.wait()
        with LocalMachine().exclusive("stack"):
            pass


@pytest.mark.real_process
@pytest.mark.skipif(shutil.which("flock") is None, reason="the far side's flock is missing here")
def test_the_far_side_lets_one_session_at_a_time_hold_it() -> None:
    hold = ("sh", "-c", ssh._HOLD, "sh", "stack")
    with started(*hold) as first:
        assert first_line(first) == b"held\n"
        with started(*hold) as second:
            assert first_line(second) == b""
            assert second.wait(timeout=10) != 0
        # as when the connection is lost
        assert first.stdin is not None
        first.stdin.close()
        first.wait(timeout=10)
        with started(*hold) as third:
            assert first_line(third) == b"held\n"


@pytest.mark.real_process
def test_the_far_side_without_flock_goes_on_without_a_lock(tmp_path: Path) -> None:
    for program in ("mkdir", "cat", "sh"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    shell = os.path.realpath(shutil.which("sh") or "")
    hold = (shell, "-c", f"PATH={tmp_path}; {ssh._HOLD}", "sh", "stack")
    with started(*hold) as first, started(*hold) as second:
        assert first_line(first) == first_line(second) == b"held\n"
