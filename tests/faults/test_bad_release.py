"""A release that does not work, and the gap in service of one that does."""

from __future__ import annotations

import re
import time

import pytest

from jupbox import errors
from tests.faults.choosing import sample
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX, BROKEN
from tests.integration.errorbox import refused

# between two looks 100 ms apart, on a machine that has other things to do as well
NO_GAP = 1.0

FAULTS = {
    "exits": "its server exits",
    "hangs": "its server hangs",
    "plain": "its server speaks plain HTTP",
    "kernel": "no kernel starts",
}


@sample(1)
@pytest.mark.parametrize("image", BROKEN)
def test_a_release_that_does_not_work(image: str, bench: Bench, outcome: Outcome) -> None:
    outcome.fault, outcome.how = f"a release: {FAULTS[image]}", "`up`, probed each 100 ms"
    before, identity = bench.running_image(), bench.stack.identity()
    bench.want(image)

    with bench.watched() as watch:
        began = time.monotonic()
        refused(bench.laptop.jupbox("up", BOX), errors.RolloutError)
        outcome.seconds["error after"] = time.monotonic() - began

    outcome.seconds["longest gap"] = watch.gap
    assert (bench.running_image(), bench.stack.identity()) == (before, identity)
    assert watch.gap < NO_GAP
    bench.want(before)
    bench.up()
    bench.assert_well()
    outcome.result = "the old release served on"


@sample(0.5)
@pytest.mark.parametrize("way", ["jupbox", "compose"])
def test_the_gap_of_a_roll_out(way: str, bench: Bench, outcome: Outcome) -> None:
    outcome.fault = "none: a release that works"
    outcome.how = "`up`" if way == "jupbox" else "plain `docker compose up -d`"
    bench.want_a_change()
    with bench.watched() as watch:
        if way == "jupbox":
            bench.up()
        else:
            compose_up(bench)
            # its container starts to answer some seconds after compose is content
            bench.wait_until_it_answers(within=60)
    outcome.seconds["longest gap"] = watch.gap
    outcome.result = "rolled out"
    bench.up()
    bench.assert_well()


@sample(0.5)
def test_the_time_of_a_rollback(
    bench: Bench, outcome: Outcome, pytestconfig: pytest.Config
) -> None:
    outcome.fault = "none: back from a release"
    outcome.how = "`rollback`, beside `docker restart` of the same server"
    old = bench.running_image()
    bench.want_a_change()
    bench.up()

    container = str(bench.stack.inspect()["Id"])
    with bench.watched() as restart:
        bench.stack.docker("restart", container)
        bench.wait_until_it_answers(within=60)
    with bench.watched() as rollback:
        bench.laptop.must("rollback", BOX)
        bench.wait_until_it_answers(within=60)
    outcome.seconds |= {"rollback": rollback.back, "restart": restart.back}

    assert bench.running_image() == old
    # a whole run has the machine to itself; beside other tests the laptop's part takes its time
    most = 2 if pytestconfig.getoption("--full") else 10
    assert rollback.back < most * restart.back, outcome.seconds
    outcome.result = "the release before served again"
    bench.want(old)
    bench.up()
    bench.assert_well()


def compose_up(bench: Bench) -> None:
    """What a user would do who has the compose file and an image: `docker compose up -d`.

    The file is that of jupbox; the image is an older release of the other variant.
    """
    out = bench.faulty.folder / "compose"
    bench.laptop.jupbox("up", BOX, "--dry-run", "--out", str(out))
    text = next(out.rglob("compose.yaml")).read_text()
    sealed = bench.stack.docker(
        "image", "ls", "--filter", f"label=dev.jupbox.image={bench.image}",
        "--filter", "label=dev.jupbox.kind=sealed", "--format", "{{.Repository}}:{{.Tag}}",
    ).split()  # fmt: skip
    tag = max(sealed, key=lambda name: int(name.rpartition("-")[2]))
    generation = tag.rpartition("-")[2]
    text = re.sub(r"image: .*", f'image: "{tag}"', text, count=1)
    text = re.sub(r"_seal-\w+", f"_seal-{generation}", text)
    bench.box.exec("tee", "/root/compose.yaml", input=text)
    bench.box.exec("docker", "compose", "--file", "/root/compose.yaml", "up", "--detach")
