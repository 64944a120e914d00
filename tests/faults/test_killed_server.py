"""What runs on the box ends by SIGKILL, stops for a while, or hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from jupbox import errors
from tests.faults.choosing import sample
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX
from tests.integration.boxes.boxes import wait_until
from tests.integration.boxes.images import run
from tests.integration.errorbox import refused
from tests.triggers import triggers


def kill_server(bench: Bench) -> None:
    """SIGKILL the server itself, as the kernel's out-of-memory killer would."""
    bench.box.exec("kill", "-KILL", server_process(bench))


def kill_engine(bench: Bench) -> None:
    """SIGKILL the engine; the next one comes at once, as systemd would have it."""
    bench.box.kill_engine()


def kill_box(bench: Bench) -> None:
    """Take the power from the box, and give it back."""
    run("docker", "kill", bench.box.container)
    run("docker", "start", bench.box.container)
    bench.box.wait_until_up()


def restart_box(bench: Bench) -> None:
    """Boot the box."""
    bench.box.restart()


def server_process(bench: Bench) -> str:
    """Its number on the box; the container's first process is Docker's own init."""
    first = str(bench.stack.inspect()["State"]["Pid"])
    return bench.box.exec("pgrep", "--parent", first).split()[0]


NAMES = {
    "kill_server": "SIGKILL of the server",
    "kill_engine": "SIGKILL of the engine",
    "kill_box": "power cut of the box",
    "restart_box": "reboot of the box",
    "stopped_engine": "engine stopped for a while",
    "frozen_engine": "engine hangs (SIGSTOP)",
}


@sample(1)
@pytest.mark.parametrize("fault", [kill_server, kill_engine, kill_box, restart_box])
def test_it_comes_back_by_itself(
    fault: Callable[[Bench], None], bench: Bench, outcome: Outcome
) -> None:
    outcome.fault = NAMES[fault.__name__]
    outcome.how = "while the server runs"
    identity = bench.stack.identity()

    fault(bench)

    wait_until(lambda: bench.stack.identity() != identity, "another start")
    outcome.seconds["answers after"] = bench.wait_until_it_answers(within=60)
    outcome.result = "came back by itself"
    assert bench.stack.identity()[0] == identity[0]
    bench.assert_well()


@contextmanager
def stopped_engine(bench: Bench) -> Iterator[None]:
    """The engine is stopped in order, and started again."""
    bench.box.exec("touch", "/run/box-stops")
    bench.box.exec("sh", "-c", "kill -TERM $(cat /run/docker.pid)")
    wait_until(lambda: not bench.box.succeeds("pgrep", "--exact", "dockerd"), "end of the engine")
    try:
        yield
    finally:
        bench.box.exec("rm", "-f", "/run/box-stops", "/run/docker.pid")
        again = "while [ ! -e /run/box-stops ]; do dockerd >> /var/log/dockerd.log 2>&1; done"
        run("docker", "exec", "--detach", bench.box.container, "sh", "-c", again)
        bench.box.wait_until_up()


@contextmanager
def frozen_engine(bench: Bench) -> Iterator[None]:
    """The engine hangs: it takes connections and says nothing."""
    engine = bench.box.exec("pgrep", "--exact", "--oldest", "dockerd").strip()
    bench.box.exec("kill", "-STOP", engine)
    try:
        yield
    finally:
        bench.box.exec("kill", "-CONT", engine)


@sample(0.3)
@triggers(errors.EngineError)
@pytest.mark.parametrize("fault", [stopped_engine, frozen_engine])
def test_an_engine_that_is_away_is_said_so(
    fault: Callable[[Bench], AbstractContextManager[None]], bench: Bench, outcome: Outcome
) -> None:
    outcome.fault = NAMES[fault.__name__]
    outcome.how = "`up` meanwhile; then it goes on"
    bench.want_a_change()

    with fault(bench):
        began = time.monotonic()
        refused(bench.laptop.jupbox("up", BOX, timeout=150), errors.EngineError)
        outcome.seconds["clear error after"] = time.monotonic() - began

    outcome.seconds["answers after"] = bench.wait_until_it_answers(within=60)
    outcome.result = "clear error, came back by itself, the next `up` converged"
    bench.up()
    bench.assert_well()
