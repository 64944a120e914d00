"""The box on which faults are injected, one for all tests of a process."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.injection import FaultyLaptop, Observed
from tests.faults.results import outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX, HOST, ensure_images
from tests.integration.boxes.boxes import Keyring, running_box
from tests.integration.boxes.fixtures import box, boxes, keyring
from tests.integration.jupbox_command import StackOnBox, new_laptop

__all__ = ["box", "boxes", "keyring", "outcome"]

_BENCH: list[Bench] = []
_CHANGE: list[Observed] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of the bench on one worker."""
    for item in items:
        if "bench" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.box)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("box-faultbox"))


@pytest.fixture
def bench(keyring: Keyring, pytestconfig: pytest.Config) -> Bench:
    """A running server with work on it; an earlier test's faults are mended."""
    if not _BENCH:
        keep = ExitStack()
        pytestconfig.add_cleanup(keep.close)
        _BENCH.append(_new_bench(keyring, keep))
    made = _BENCH[0]
    if not made.answers():
        made.want("a")
        made.up()
    return made


def _new_bench(keyring: Keyring, keep: ExitStack) -> Bench:
    folder = Path(tempfile.mkdtemp(prefix="jupboxtest-"))
    keep.callback(shutil.rmtree, folder, ignore_errors=True)
    faultbox = keep.enter_context(running_box("workbox", keyring, alias=HOST))
    laptops = []
    for name in ("ada", "observer"):
        (folder / name).mkdir()
        laptops.append(keep.enter_context(new_laptop(folder / name, keyring)))
    (folder / "project").mkdir()
    laptop = laptops[0].at(folder / "project")
    ensure_images(faultbox, laptop)
    bench = Bench(
        box=faultbox,
        faulty=FaultyLaptop(laptop=laptop, folder=folder / "runs"),
        observer=laptops[1],
        stack=StackOnBox(box=faultbox, name=f"jupbox-ada_{BOX}"),
    )
    keep.callback(bench.close)
    # one that the making of the images left has a password that nobody has read
    bench.stack.remove()
    bench.up()
    bench.ca_pem = laptop.must("trust", BOX, "--print").stdout
    bench.plant()
    bench.want_a_change()
    seen, _ = bench.faulty.observe("up", BOX)
    _CHANGE.append(seen)
    bench.clean = bench.inventory()
    bench.assert_well()
    return bench


@pytest.fixture
def change(bench: Bench) -> Observed:
    """What an undisturbed `up` with another image does."""
    return _CHANGE[0]
