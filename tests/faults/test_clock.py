"""Clocks that are wrong, and a certificate that has expired."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest

from tests.faults.choosing import sample
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX
from tests.integration.jupbox_command import Answer


@pytest.fixture
def other_names(bench: Bench) -> Iterator[None]:
    """The box gets another name: its next `up` makes a CA and a certificate."""
    bench.want(bench.running_image(), 'names = ["other.example"]')
    yield
    bench.want(bench.running_image())
    bench.up()
    bench.learn_authority()


def at_time(offset: str, bench: Bench, *arguments: str) -> Answer:
    """Run jupbox, which must succeed, while the laptop's clock is off."""
    faketime = shutil.which("faketime")
    assert faketime is not None, "these tests need Debian's faketime"
    done = bench.laptop.run(
        faketime, "-f", offset, sys.executable, "-m", "jupbox", *arguments, timeout=300
    )
    assert done.code == 0, done.stderr
    return done


@sample(0.4)
@pytest.mark.parametrize("offset", ["+1h", "-1h"])
def test_a_clock_an_hour_off(
    offset: str, bench: Bench, other_names: None, outcome: Outcome
) -> None:
    outcome.fault = "clock an hour off"
    outcome.how = f"the laptop's by {offset} in an `up` that makes a certificate"
    at_time(offset, bench, "up", BOX)
    bench.learn_authority()
    outcome.result = "browsers with the right time verify it"
    bench.assert_well()


@sample(0.4)
def test_a_certificate_that_has_expired(bench: Bench, other_names: None, outcome: Outcome) -> None:
    outcome.fault, outcome.how = "certificate expired", "made by a laptop of 400 days ago"
    at_time("-400d", bench, "up", BOX)
    # at that time, too: any command of today renews it
    bench.ca_pem = at_time("-400d", bench, "trust", BOX, "--print").stdout
    assert bench.expired()
    identity = bench.stack.identity()

    bench.laptop.must("status", BOX)

    outcome.seconds["answers after"] = bench.wait_until_it_answers(within=30)
    assert bench.stack.identity() == identity, "a kernel would be lost"
    outcome.result = "the next command renewed it, with no restart"
    bench.assert_well()
