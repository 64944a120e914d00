"""The box on which faults are injected, one for all tests of a process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.injection import FaultyLaptop, Observed
from tests.faults.results import outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX, HOST, ensure_images
from tests.integration.boxes.boxes import BoxUnderTest, Keyring, running_box
from tests.integration.boxes.fixtures import box, boxes, keyring
from tests.integration.jupbox_command import StackOnBox, new_laptop

__all__ = ["box", "boxes", "keyring", "outcome"]

# a tenth of the usual reserve for root, without which no engine could start what has ended
_DISK = """
set -e
truncate --size=1200M /var/tmp/docker.ext4
mkfs.ext4 -q -m 0.5 /var/tmp/docker.ext4
mount -o loop /var/tmp/docker.ext4 /var/lib/docker
"""
_BENCHES: dict[str, Bench] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of the bench on one worker."""
    for item in items:
        if {"bench", "small_bench"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.box)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("box-faultbox"))


@pytest.fixture
def bench(keyring: Keyring, pytestconfig: pytest.Config) -> Bench:
    """A running server with work on it; an earlier test's faults are mended."""
    return _well(HOST, keyring, pytestconfig, prepare=lambda box: None)


@pytest.fixture
def small_bench(keyring: Keyring, pytestconfig: pytest.Config) -> Bench:
    """The same on a box whose engine has a small disk of its own, which can be filled."""

    def limit(box: BoxUnderTest) -> None:
        box.exec("sh", "-s", input=_DISK)
        box.kill_engine()

    return _well("smallbox", keyring, pytestconfig, prepare=limit)


def _well(
    alias: str, keyring: Keyring, config: pytest.Config, *, prepare: Callable[[BoxUnderTest], None]
) -> Bench:
    """A bench of this process, made at the first call."""
    if alias not in _BENCHES:
        keep = ExitStack()
        config.add_cleanup(keep.close)
        _BENCHES[alias] = _new_bench(keyring, keep, alias=alias, prepare=prepare)
    made = _BENCHES[alias]
    if not made.answers():
        made.want("a")
        made.up()
    return made


def _new_bench(
    keyring: Keyring, keep: ExitStack, *, alias: str, prepare: Callable[[BoxUnderTest], None]
) -> Bench:
    """A bench on a box of its own; `prepare` comes before the first image."""
    folder = Path(tempfile.mkdtemp(prefix="jupboxtest-"))
    keep.callback(shutil.rmtree, folder, ignore_errors=True)
    faultbox = keep.enter_context(running_box("workbox", keyring, alias=alias))
    prepare(faultbox)
    laptops = []
    for name in ("ada", "observer"):
        (folder / name).mkdir()
        laptops.append(keep.enter_context(new_laptop(folder / name, keyring)))
    (folder / "project").mkdir()
    laptop = laptops[0].at(folder / "project")
    ensure_images(faultbox, laptop, alias)
    bench = Bench(
        box=faultbox,
        host=alias,
        faulty=FaultyLaptop(laptop=laptop, folder=folder / "runs"),
        observer=laptops[1],
        stack=StackOnBox(box=faultbox, name=f"jupbox-ada_{BOX}"),
    )
    keep.callback(bench.close)
    # one that the making of the images left has a password that nobody has read
    bench.stack.remove()
    bench.up()
    bench.learn_authority()
    bench.plant()
    bench.want_a_change()
    seen, _ = bench.faulty.observe("up", BOX)
    bench.change = seen
    bench.clean = bench.inventory()
    bench.assert_well()
    return bench


@pytest.fixture
def change(bench: Bench) -> Observed:
    """What an undisturbed `up` with another image does."""
    assert bench.change is not None
    return bench.change
