"""The client ends by SIGKILL, or the laptop loses its power, somewhere in a verb."""

from __future__ import annotations

import time

import pytest

from tests.faults.choosing import sample
from tests.faults.injection import Observed
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX

POINTS_OF_UP = 66


@sample(8)
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
