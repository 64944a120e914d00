"""The lock by which one process at a time changes something, here and on a session's far end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from jupbox.audit import Change, Ended, read_entries
from jupbox.errors import BusyError, HostError
from jupbox.host import exclusion
from jupbox.host.exclusion import Hold
from jupbox.host.machine import LocalMachine

HOLD = """
import sys
from jupbox.audit import Change
from jupbox.host.machine import LocalMachine
change = Change(id="other", who="bob@desk", pid=1, verb="down")
with LocalMachine().exclusive("stack", change):
    print("held", flush=True)
    sys.stdin.read()
"""
HOLD_WITH_CHILD = """
import subprocess, sys
from jupbox.audit import Change
from jupbox.host.exclusion import held_there, script_arguments
from jupbox.host.machine import LocalMachine
change = Change(id="other", who="bob@desk", pid=1, verb="down")
with {take} as hold:
    child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, pass_fds=[hold.descriptor])
    print(child.pid, flush=True)
    sys.stdin.read()
"""
MINE = Change(
    id="mine", who="ada@laptop", pid=7, verb="up", arguments=("--from", "it's"), revision="1a2b3c4"
)
OTHER = Change(id="other", who="bob@desk", pid=8, verb="down")

needs_flock = pytest.mark.skipif(
    shutil.which("flock") is None, reason="the far side's flock is missing here"
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the locks is the test's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".local" / "state" / "jupbox"


def here(change: Change, *, record: bool = True) -> AbstractContextManager[Hold]:
    return LocalMachine().exclusive("stack", change, record=record)


def there(change: Change, *, record: bool = True) -> AbstractContextManager[Hold]:
    """The script, as at the far end of a session."""
    argv = exclusion.script_arguments("stack", change, record=record)
    return exclusion.held_there(argv, "workbox")


Take = Callable[..., AbstractContextManager[Hold]]
both = pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(one, two, id=f"{one.__name__}-{two.__name__}", marks=needs_flock)
        for one in (here, there)
        for two in (here, there)
    ],
)
each = pytest.mark.parametrize(
    "take", [here, pytest.param(there, marks=needs_flock)], ids=lambda take: take.__name__
)

pytestmark = pytest.mark.real_process


@both
def test_a_second_one_is_refused_by_the_firsts_name(first: Take, second: Take) -> None:
    with first(MINE):
        with pytest.raises(BusyError) as caught, second(OTHER):
            pass
        assert "ada@laptop has been running `jupbox up --from it's` since " in caught.value.message
        assert "--wait" in caught.value.remedy
        assert caught.value.holder is not None
        assert caught.value.holder.id == "mine"


@both
def test_afterwards_the_next_one_is_let_in(first: Take, second: Take) -> None:
    with pytest.raises(KeyboardInterrupt), first(MINE):
        raise KeyboardInterrupt
    with second(OTHER) as hold:
        assert hold.left is None


@each
def test_another_stack_is_another_lock(take: Take) -> None:
    with take(MINE), LocalMachine().exclusive("other", OTHER):
        pass


@each
def test_nobody_else_sees_what_is_kept(take: Take, state: Path) -> None:
    with take(MINE):
        modes = {path.name: path.stat().st_mode & 0o777 for path in (state, *state.iterdir())}
    assert modes == {"jupbox": 0o700, "stack.lock": 0o600, "stack.audit": 0o600}


@each
def test_where_state_lies_for_a_terminal_does_not_matter(
    take: Take, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login by ssh has no such variable, and must find the same lock."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    with take(MINE):
        assert (state / "stack.lock").exists()
    assert not (tmp_path / "elsewhere").exists()


# --- holders that die ---------------------------------------------------------------------------


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


@each
def test_a_killed_holder_leaves_its_name_and_no_lock(take: Take) -> None:
    with started(sys.executable, "-c", HOLD) as process:
        assert first_line(process) == b"held\n"
        with pytest.raises(BusyError, match="bob@desk"), take(MINE):
            pass
        process.kill()
        process.wait()
        with take(MINE) as hold:
            assert hold.left is not None
            assert (hold.left.who, hold.left.verb) == ("bob@desk", "down")


@needs_flock
def test_the_lock_goes_with_the_session(state: Path) -> None:
    argv = exclusion.script_arguments("stack", OTHER, record=True)
    with started(*argv) as session:
        assert first_line(session).startswith(b"held ")
        assert session.stdin is not None
        session.stdin.close()
        session.wait(timeout=10)
        with here(MINE) as hold:
            assert hold.left is not None


@needs_flock
def test_a_session_that_falls_silent_loses_the_lock() -> None:
    """As when the laptop is out of the network: sshd would keep it for hours."""
    *argv, _ = exclusion.script_arguments("stack", OTHER, record=True)
    with started(*argv, "1") as session:
        assert first_line(session).startswith(b"held ")
        begun = time.monotonic()
        session.wait(timeout=20)
        assert 0.9 < time.monotonic() - begun < 10
        with here(MINE) as hold:
            assert hold.left is not None


@needs_flock
def test_a_session_that_beats_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusion, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(exclusion, "PATIENCE_SECONDS", 1)
    with there(MINE) as hold:
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            with pytest.raises(BusyError), here(OTHER):
                pass
        hold.check()


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that a test has started."""
    found: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)
    return found


@needs_flock
def test_who_lost_the_lock_is_told_at_the_next_look(
    sessions: list[subprocess.Popen[bytes]],
) -> None:
    def look_on(hold: Hold) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            hold.check()

    with there(MINE) as hold:
        hold.check()
        sessions[0].kill()
        with pytest.raises(HostError, match="was lost, and with it the lock"):
            look_on(hold)


@needs_flock
def test_a_laptop_that_slept_asks_before_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The far end is there still: it answers, and all is well."""
    monkeypatch.setattr(exclusion, "BEAT_SECONDS", 0.2)
    ahead = 0.0
    monkeypatch.setattr(exclusion, "_now", lambda: time.time() + ahead)
    with there(MINE) as hold:
        ahead = 3600.0
        hold.check()


@needs_flock
def test_a_far_end_that_does_not_answer_has_lost_it(
    sessions: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusion, "_END_SECONDS", 0.5)
    monkeypatch.setattr(exclusion, "_LEASE_SECONDS", 0.0)
    with there(MINE) as hold:
        sessions[0].send_signal(signal.SIGSTOP)
        with pytest.raises(HostError, match="lost"):
            hold.check()
            hold.check()  # the first one may have heard the answer to the first beat


@pytest.mark.parametrize("where", ["here", pytest.param("there", marks=needs_flock)])
def test_what_a_killed_holder_had_started_keeps_the_lock_to_its_end(where: str) -> None:
    take = {
        "here": "LocalMachine().exclusive('stack', change)",
        "there": "held_there(script_arguments('stack', change, record=True), 'workbox')",
    }
    code = HOLD_WITH_CHILD.format(take=take[where])
    with started(sys.executable, "-c", code) as process:
        child = int(first_line(process))
        try:
            process.kill()
            process.wait()
            with pytest.raises(BusyError, match="bob@desk"), here(MINE):
                pass
        finally:
            os.kill(child, signal.SIGKILL)
        with here(MINE) as hold:
            assert hold.left is not None


# --- what is kept -------------------------------------------------------------------------------


def kept(state: Path) -> str:
    return (state / "stack.audit").read_text()


@each
def test_beginning_and_end_are_kept(take: Take, state: Path) -> None:
    before = int(time.time())
    with take(MINE) as hold:
        hold.ended = Ended(id="mine", outcome="failed", code=24, message='a "b" $HOME `c`')
    (entry,) = read_entries(kept(state))
    assert (entry.change.who, entry.change.arguments) == ("ada@laptop", ("--from", "it's"))
    assert (entry.outcome, entry.code, entry.message) == ("failed", 24, 'a "b" $HOME `c`')
    assert entry.change.began is not None
    assert entry.ended is not None
    assert before <= entry.change.began.timestamp() <= entry.ended.timestamp() <= time.time()


@each
def test_what_changes_nothing_is_not_kept(take: Take, state: Path) -> None:
    with take(MINE, record=False):
        assert (state / "stack.lock").exists()
    assert not (state / "stack.audit").exists()


@each
def test_only_the_last_lines_are_kept(
    take: Take, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusion, "KEPT", 10)
    for number in range(12):
        with take(Change(id=str(number), who="ada@laptop", pid=7, verb="up")) as hold:
            hold.ended = Ended(id=str(number), outcome="done")
    lines = [json.loads(line)["id"] for line in kept(state).splitlines()]
    assert lines == [str(number) for number in range(7, 12) for _ in "12"]


@each
def test_a_line_that_a_full_disk_cut_short_takes_no_other_with_it(take: Take, state: Path) -> None:
    state.mkdir(parents=True)
    (state / "stack.audit").write_text('{"at": 1, "id": "cut')
    with take(MINE) as hold:
        hold.ended = Ended(id="mine", outcome="done")
    assert [entry.change.id for entry in read_entries(kept(state))] == ["mine"]


@each
def test_what_was_removed_under_the_lock_stays_away(take: Take, state: Path) -> None:
    with take(MINE) as hold:
        LocalMachine().forget("stack")
        hold.ended = Ended(id="mine", outcome="done")
    assert not state.exists()


@both
def test_a_file_that_was_removed_meanwhile_is_no_lock(
    first: Take, second: Take, state: Path
) -> None:
    with first(MINE):
        (state / "stack.lock").unlink()
        with second(OTHER), pytest.raises(BusyError), first(MINE):
            pass


def look_there() -> exclusion.Record:
    argv = ["sh", "-c", exclusion.LOOK, "sh", "stack"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return exclusion.read_record(done.stdout)


@each
@pytest.mark.parametrize("look", [look_there, lambda: LocalMachine().recorded("stack")])
def test_a_look_says_who_is_at_it(take: Take, look: Callable[[], exclusion.Record]) -> None:
    assert look() == exclusion.Record(holder=None, text="")
    with take(MINE) as hold:
        during = look()
        assert during.holder is not None
        assert during.holder.id == "mine"
        hold.ended = Ended(id="mine", outcome="done")
    after = look()
    assert after.holder is None
    assert [entry.outcome for entry in read_entries(after.text)] == ["done"]


# --- hosts that lack something ------------------------------------------------------------------


@contextmanager
def poor_host(tmp_path: Path, *programs: str) -> Iterator[list[str]]:
    """How the script is called where only those programs are."""
    room = tmp_path / "bin"
    room.mkdir()
    for program in programs:
        (room / program).symlink_to(shutil.which(program) or "")
    shell = os.path.realpath(shutil.which("sh") or "")
    argv = exclusion.script_arguments("stack", MINE, record=True)
    yield [shell, "-c", f"PATH={room}; {exclusion.HOLD}", *argv[3:]]


def test_without_flock_it_goes_on_without_a_lock(tmp_path: Path, state: Path) -> None:
    with (
        poor_host(tmp_path, "mkdir", "sh", "date", "tail", "wc", "timeout") as argv,
        exclusion.held_there(argv, "workbox") as first,
        exclusion.held_there(argv, "workbox") as second,
    ):
        first.check()
        second.check()
        first.ended = Ended(id="mine", outcome="done")
    assert [entry.outcome for entry in read_entries(kept(state))] == ["done", "done"]


@needs_flock
def test_without_timeout_the_lock_goes_with_the_session_alone(tmp_path: Path) -> None:
    with (
        poor_host(tmp_path, "mkdir", "sh", "date", "tail", "wc", "flock", "sleep", "mv") as argv,
        exclusion.held_there(argv, "workbox") as hold,
    ):
        hold.check()
        with pytest.raises(BusyError), here(OTHER):
            pass


@needs_flock
def test_a_home_that_takes_no_file_stops_nobody(state: Path) -> None:
    state.parent.mkdir(parents=True)
    state.write_text("no folder")
    with there(MINE) as hold:
        hold.check()
