"""The disk of the box's engine is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jupbox import errors
from tests.faults.choosing import sample
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX
from tests.faults.test_killed_server import kill_server
from tests.integration.boxes.boxes import wait_until
from tests.integration.errorbox import two_lines
from tests.triggers import triggers

_FILL_FOR_USERS = """
free=$(df --output=avail -k /var/lib/docker | tail -n 1)
fallocate -l $((free - $1))K /var/lib/docker/ballast
"""
# what ext4 keeps for itself is counted as free, and is not: it is full when it says so
_FILL_FOR_ALL = """
cd /var/lib/docker
fallocate -l $(($(stat -f -c "%f * %S / 1024" .) - 20000))K ballast
! dd if=/dev/zero of=ballast bs=4k oflag=append conv=notrunc 2>/dev/null
truncate --size=-$1K ballast
"""


@contextmanager
def full(bench: Bench, *, left: int, to_root: bool) -> Iterator[None]:
    """Leave the engine's disk that many kB: to root, that is to the engine, or to users."""
    fill = _FILL_FOR_ALL if to_root else _FILL_FOR_USERS
    try:
        bench.box.exec("sh", "-es", "--", str(left), input=fill)
        yield
    finally:
        bench.box.exec("rm", "-f", "/var/lib/docker/ballast")


# where it ends: in the build of the body, in the sealed image, in containers and volumes
@sample(0.3)
@pytest.mark.parametrize(
    "left", [pytest.param(0, marks=triggers(errors.DiskFullError)), 300, 1000, 3000]
)
def test_in_up(left: int, small_bench: Bench, outcome: Outcome) -> None:
    bench = small_bench
    outcome.fault, outcome.how = "disk full in `up`", "0 to 3 MB left in the image store"
    bench.want_a_change()

    with full(bench, left=left, to_root=True):
        with bench.watched() as watch:
            done = bench.laptop.jupbox("up", BOX)
        assert bench.answers()

    outcome.seconds["longest gap"] = watch.gap
    if done.code:
        assert done.code == errors.DiskFullError.exit_code, done.stderr
        two_lines(done.stderr)
        outcome.result = "clear error, the old release served on; the next `up` converged"
    else:
        outcome.result = "went through"
    bench.up()
    bench.assert_well()


@sample(0.3)
def test_in_the_home_volume(small_bench: Bench, outcome: Outcome) -> None:
    bench = small_bench
    outcome.fault, outcome.how = "disk full", "in the volume, by a kernel; the server SIGKILLed"
    kernel = bench.stack.start_kernel()
    with full(bench, left=200, to_root=False):
        bench.stack.run_in_kernel(kernel, _WRITE)
        assert bench.answers()
        identity = bench.stack.identity()
        kill_server(bench)
        wait_until(lambda: bench.stack.identity() != identity, "another start")
        outcome.seconds["answers after"] = bench.wait_until_it_answers(within=60)
        assert bench.stack.python("import os; os.remove(os.path.expanduser('~/big'))") == ""
    outcome.result = "the server lived, came back, and let a file be deleted"
    bench.up()
    bench.assert_well()


_WRITE = """
import os
try:
    with open(os.path.expanduser("~/big"), "wb") as file:
        file.write(bytes(10_000_000))
except OSError as error:
    assert error.errno == 28, error
else:
    raise AssertionError("the disk was not full")
"""
