"""The client ends by SIGKILL, or the laptop loses its power, somewhere in a verb."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.choosing import sample
from tests.faults.injection import Observed, Point
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX

POINTS_OF_UP = 66
POINTS = 10


@sample(3)
@pytest.mark.parametrize("number", range(POINTS_OF_UP))
def test_up_with_a_change(number: int, bench: Bench, change: Observed, outcome: Outcome) -> None:
    point = change.points(POINTS_OF_UP)[number]
    everything = number % 2 == 1
    outcome.fault = "laptop without power in `up`" if everything else "SIGKILL of `up`"
    outcome.how = "at docker's calls, by stage and by time"
    bench.want_a_change()

    code = bench.faulty.killed(point, "up", BOX, everything=everything)

    assert code in {-9, 0}, (str(point), code)
    served = bench.answers()
    began = time.monotonic()
    bench.up()
    outcome.seconds["next `up` at most"] = time.monotonic() - began
    outcome.result = "served on" if served else "served after the next `up`"
    assert bench.running_image() == bench.image, str(point)
    bench.assert_well()


_VERBS: dict[str, Observed] = {}


def points_of(bench: Bench, *arguments: str, input: str = "") -> list[Point]:
    """Ten points of a verb, which is run once without a fault to see them."""
    verb = arguments[0]
    if verb not in _VERBS:
        _VERBS[verb], _ = bench.faulty.observe(*arguments, input=input)
    return _VERBS[verb].points(POINTS)


@sample(0.5)
@pytest.mark.parametrize("number", range(POINTS))
def test_down(number: int, bench: Bench, outcome: Outcome) -> None:
    point = points_of(bench, "down", BOX)[number]
    outcome.fault = "SIGKILL of `down`"
    outcome.how = "at docker's calls, by stage and by time"
    bench.up()

    bench.faulty.killed(point, "down", BOX, everything=number % 2 == 1)

    outcome.result = "served after the next `up`"
    bench.up()
    bench.assert_well()


@sample(1)
@pytest.mark.parametrize("number", range(POINTS))
def test_password(number: int, bench: Bench, outcome: Outcome) -> None:
    if "password" not in _VERBS:
        points_of(bench, "password", BOX, "--stdin", input="the very first one\n")
        bench.password = "the very first one"
    point = _VERBS["password"].points(POINTS)[number]
    outcome.fault = "SIGKILL of `password`"
    outcome.how = "at docker's calls, by stage and by time"
    chosen, identity = f"another password {number}", bench.stack.identity()

    bench.faulty.killed(
        point, "password", BOX, "--stdin", everything=number % 2 == 1, input=f"{chosen}\n"
    )

    assert bench.answers() or bench.answers(password=chosen), "neither password is in force"
    bench.up()
    in_force = [each for each in (bench.password, chosen) if bench.answers(password=each)]
    assert len(in_force) == 1
    assert bench.stack.identity() == identity, "a kernel would be lost"
    outcome.result = f"the {'new' if in_force == [chosen] else 'old'} password alone is in force"
    bench.password = in_force[0]
    bench.assert_well()


@sample(0.5)
@pytest.mark.parametrize("number", range(POINTS))
def test_rollback(number: int, bench: Bench, outcome: Outcome) -> None:
    if "rollback" not in _VERBS:
        bench.want_a_change()
        bench.up()
    point = points_of(bench, "rollback", BOX)[number]
    outcome.fault = "SIGKILL of `rollback`"
    outcome.how = "at docker's calls, by stage and by time"
    bench.want_a_change()
    bench.up()

    bench.faulty.killed(point, "rollback", BOX, everything=number % 2 == 1)

    outcome.result = "served on" if bench.answers() else "served after the next `up`"
    began = time.monotonic()
    bench.up()
    outcome.seconds["next `up` at most"] = time.monotonic() - began
    assert bench.running_image() == bench.image, str(point)
    bench.assert_well()


@sample(0.5)
@pytest.mark.parametrize("number", range(POINTS))
def test_restore(number: int, bench: Bench, outcome: Outcome, tmp_path: Path) -> None:
    file = str(tmp_path / "fault.tar.zst")
    bench.laptop.must("backup", BOX, file)
    point = points_of(bench, "restore", BOX, file, "--yes")[number]
    outcome.fault = "SIGKILL of `restore`"
    outcome.how = "at docker's calls, by stage and by time"

    bench.faulty.killed(point, "restore", BOX, file, "--yes", everything=number % 2 == 1)

    outcome.result = "served on" if bench.answers() else "served after the next `up`"
    bench.up()
    assert bench.answers()
    assert not bench.lost(), str(point)
    # what a restore that is given up leaves is taken away by the next one
    bench.laptop.must("restore", BOX, file, "--yes")
    bench.assert_well()
