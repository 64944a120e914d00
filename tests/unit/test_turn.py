"""A verb's turn: what it tells the box, and for whom it waits."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from jupbox.audit import Change, Ended
from jupbox.console import Console
from jupbox.errors import BuildError, BusyError, HostError
from jupbox.host.exclusion import Hold, busy
from jupbox.workflows import turn as room
from jupbox.workflows.turn import turn
from tests.unit.fakes import FakeHold, FakeMachine
from tests.unit.release.bench import STACK, Bench, bench

GONE = 2**22 + 1  # no process has that number


@dataclass
class Queue(FakeMachine):
    """Refuses as often as there are holders."""

    holders: list[Change] = field(default_factory=list)
    hold: FakeHold = field(default_factory=FakeHold)

    @contextmanager
    def exclusive(self, name: str, change: Change, *, record: bool = True) -> Iterator[Hold]:
        if self.holders:
            raise busy(self.name, self.holders.pop(0))
        self.record.append(change)
        yield self.hold


def by(who: str, *, pid: int = 1) -> Change:
    return Change(id=who, who=who, pid=pid, verb="up")


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_LOOK_SECONDS", 0.0)


def ended(made: Bench) -> Ended:
    _, end = made.machine.record
    assert isinstance(end, Ended)
    return end


def test_a_change_is_announced_and_its_end_told(console: Console) -> None:
    made = bench()
    words = ("--from", "https://ada:secret@git.example.org/x")
    with turn(made.site, "up", console=console, arguments=words, revision="1a2b"):
        assert made.machine.held == [STACK]
    change = made.machine.record[0]
    assert isinstance(change, Change)
    assert (change.verb, change.pid, change.revision) == ("up", os.getpid(), "1a2b")
    assert change.arguments == ("--from", "https://git.example.org/x")
    assert change.host == platform.node()
    assert (ended(made).id, ended(made).outcome, ended(made).code) == (change.id, "done", 0)


def test_nothing_to_do_is_told_so(console: Console) -> None:
    made = bench()
    with turn(made.site, "up", console=console) as mine:
        mine.found_nothing()
    assert ended(made).outcome == "nothing to do"


@pytest.mark.parametrize(
    ("error", "outcome", "code", "message"),
    [
        (BuildError("No wheel. More.", remedy="Mend it."), "failed", 24, "No wheel."),
        (KeyboardInterrupt(), "interrupted", 130, ""),
        (ValueError("hunter2"), "failed", 1, "ValueError"),
    ],
)
def test_a_failure_is_told_without_a_secret(
    error: BaseException, outcome: str, code: int, message: str, console: Console
) -> None:
    made = bench()
    with pytest.raises(type(error)), turn(made.site, "up", console=console):
        raise error
    end = ended(made)
    assert (end.outcome, end.code, end.message) == (outcome, code, message)


def test_a_lost_lock_stops_the_next_stage_and_no_later_command(console: Console) -> None:
    lost = HostError("lost", remedy="Again.")
    machine = Queue(hold=FakeHold(trouble=lost))
    made = bench(machine=machine)
    with (
        pytest.raises(HostError, match="lost"),
        turn(made.site, "up", console=console),
        console.stage("one"),
    ):
        pytest.fail("the stage has begun")
    with console.stage("of another command"):
        pass


def test_dockers_processes_keep_the_lock_while_it_is_held(console: Console) -> None:
    made = bench(machine=Queue(hold=FakeHold(descriptor=9)))
    with turn(made.site, "up", console=console):
        assert made.engine.heir == 9
    assert made.engine.heir is None


def test_a_lock_that_was_left_behind_is_named(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    made = bench(machine=Queue(hold=FakeHold(left=by("ada@laptop"))))
    with turn(made.site, "up", console=console):
        pass
    assert "The lock of ada@laptop (`up`, since ?) was left behind; taken over." in (
        capsys.readouterr().err
    )


def test_who_does_not_wait_is_refused(console: Console) -> None:
    made = bench(machine=Queue(holders=[by("ada@laptop")]))
    with pytest.raises(BusyError, match="ada@laptop"), turn(made.site, "up", console=console):
        pytest.fail("two at a time")


def test_who_waits_is_told_for_whom(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Queue(holders=[by("ada@laptop"), by("ada@laptop"), by("bob@desk")])
    with turn(bench(machine=machine).site, "up", console=console, wait=True):
        pass
    said = capsys.readouterr().err
    assert said.count("ada@laptop has been running `jupbox up`") == 1
    assert said.count("bob@desk has been running `jupbox up`") == 1


def test_what_a_killed_command_of_this_machine_left_running_is_waited_for(
    console: Console,
) -> None:
    mine = by(f"ada@{platform.node()}", pid=GONE)
    machine = Queue(holders=[mine, mine])
    with turn(bench(machine=machine).site, "up", console=console):
        assert machine.holders == []


def test_a_command_of_this_machine_that_lives_is_not_waited_for(console: Console) -> None:
    alive = by(f"ada@{platform.node()}", pid=os.getpid())
    made = bench(machine=Queue(holders=[alive, alive]))
    with pytest.raises(BusyError), turn(made.site, "up", console=console):
        pytest.fail("two at a time")
