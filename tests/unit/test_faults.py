"""What the fault suite itself stands on: points, the sample's shape, the table."""

from __future__ import annotations

import json

import pytest

from tests.faults.injection import AtCall, AtStage, AtTime, Observed, When
from tests.faults.results import table

CALLS = (
    "--host unix:///s version --format x",
    "--host unix:///s create --name n image",
    "--host unix:///s container ls -aq",
    "--host unix:///s compose --file f --project-name p up --detach",
    "--host unix:///s image inspect i",
    "--host unix:///s rm --force n",
)
SEEN = Observed(calls=CALLS, lines=("Connecting ...", "done", "Starting ..."), seconds=6.0)


def test_each_side_of_a_call_that_changes_something_is_a_point() -> None:
    points = [p for p in SEEN.points(18) if isinstance(p, AtCall)]
    assert {(p.number, p.when) for p in points} == {
        *((number, when) for number in (2, 4, 6) for when in When),
        *((number, When.BEFORE) for number in (1, 3, 5)),
    }


@pytest.mark.parametrize("count", [10, 60, 66])
def test_as_many_points_as_asked_for_by_call_stage_and_time(count: int) -> None:
    points = SEEN.points(count)
    assert len(points) == count
    assert [type(p) for p in points if not isinstance(p, AtCall)][:2] == [AtStage, AtStage] or (
        count < 12
    )
    times = [p.seconds for p in points if isinstance(p, AtTime)]
    assert times == sorted(times)
    assert all(0 < seconds < SEEN.seconds for seconds in times)


def report(result: str, *, failed: bool = False, **seconds: float) -> pytest.TestReport:
    noted = {"fault": "a fault", "how": "so", "result": result, "seconds": seconds}
    return pytest.TestReport(
        nodeid=f"{result}-{failed}", location=("", 0, ""), keywords={},
        outcome="failed" if failed else "passed", longrepr=None, when="teardown",
        user_properties=[("fault", json.dumps(noted))],
    )  # fmt: skip


def test_the_table_counts_results_and_has_the_longest_times() -> None:
    text = table([report("well", up=1.0), report("well", up=2.04), report("ill", failed=True)])
    assert text.splitlines()[2:] == [
        "| a fault | so | 3 | 2 times well; 1 times FAILED. up 2.0 s |",
    ]


def test_without_a_fault_there_is_no_table() -> None:
    assert table([]) == ""
