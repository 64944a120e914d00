"""What somebody else does by hand on the box."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.choosing import sample
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX, ensure_images


@pytest.fixture
def stand_in_again(bench: Bench) -> Iterator[None]:
    """A prune takes the variants that do not run, too: the next tests need them."""
    yield
    image = bench.running_image()
    ensure_images(bench.box, bench.laptop, bench.host)
    bench.want(image)


@sample(0.5)
def test_an_image_prune(bench: Bench, outcome: Outcome, stand_in_again: None) -> None:
    outcome.fault, outcome.how = "`docker image prune --all`", "by somebody else on the box"
    bench.want_a_change()
    before = bench.running_image()
    bench.up()

    bench.stack.docker("image", "prune", "--all", "--force")
    bench.laptop.must("rollback", BOX)

    assert bench.running_image() == before
    outcome.result = "`rollback` went through"
    assert bench.answers()
    assert not bench.lost()


@sample(0.5)
def test_down_with_volumes_by_hand(bench: Bench, outcome: Outcome) -> None:
    outcome.fault, outcome.how = "`docker compose down -v`", "typed by hand on the box"
    bench.up()

    bench.stack.docker("compose", "--project-name", bench.stack.name, "down", "--volumes")

    status = bench.laptop.must("status", BOX).stdout
    assert "removed by other hands" in status
    bench.up()
    bench.assert_well()
    outcome.result = "named by `status`, mended by `up`, with the same password and work"
