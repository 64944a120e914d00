"""Fixtures that bring boxes up. A conftest imports the ones that its tests use.

Each box that a process has asked for is up until that process ends. Tests that ask for the same
box by its fixture (`workbox`, ...) run on the same xdist worker (with `--dist loadgroup`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.boxes.boxes import (
    BOXES,
    BoxUnderTest,
    Keyring,
    end_ssh_masters,
    make_keyring,
    remove_leftovers,
    running_box,
    write_laptop,
)

GetBox = Callable[[str], BoxUnderTest]


class _Boxes:
    """The boxes of this process; one for all conftests, so that none is brought up twice."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._boxes: dict[str, BoxUnderTest] = {}
        directory = Path(tempfile.mkdtemp(prefix="jupboxtest-"))
        self._open.callback(shutil.rmtree, directory, ignore_errors=True)
        self.keyring = make_keyring(directory)
        remove_leftovers()

    def get(self, name: str) -> BoxUnderTest:
        if name not in self._boxes:
            self._boxes[name] = self._open.enter_context(running_box(name, self.keyring))
        return self._boxes[name]

    def close(self) -> None:
        self._open.close()


_BOXES = pytest.StashKey[_Boxes]()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep the tests of one box together, and mark them."""
    for name in BOXES:
        if name in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.box)
            item.add_marker(pytest.mark.xdist_group(f"box-{name}"))


@pytest.fixture(scope="session")
def boxes(pytestconfig: pytest.Config) -> _Boxes:
    """The boxes of this process, none of them up yet."""
    if _BOXES not in pytestconfig.stash:
        pytestconfig.stash[_BOXES] = _Boxes()
        pytestconfig.add_cleanup(pytestconfig.stash[_BOXES].close)
    return pytestconfig.stash[_BOXES]


@pytest.fixture(scope="session")
def box(boxes: _Boxes) -> GetBox:
    """Gives a box by its name in docker-compose.yml, brought up at the first call."""
    return boxes.get


@pytest.fixture(scope="session")
def keyring(boxes: _Boxes) -> Keyring:
    """The run's ssh key and configuration files."""
    return boxes.keyring


@pytest.fixture(scope="session")
def workbox(box: GetBox) -> BoxUnderTest:
    """Debian 13 and its engine as they ship; ada is in the docker group."""
    return box("workbox")


@pytest.fixture(scope="session")
def storebox(box: GetBox) -> BoxUnderTest:
    """The same with the containerd image store."""
    return box("storebox")


@pytest.fixture(scope="session")
def bare12(box: GetBox) -> BoxUnderTest:
    """Debian 12 with no engine; ada may sudo."""
    return box("bare12")


@pytest.fixture(scope="session")
def bare13(box: GetBox) -> BoxUnderTest:
    """Debian 13 with no engine; ada may sudo."""
    return box("bare13")


@pytest.fixture(scope="session")
def systemd12(box: GetBox) -> BoxUnderTest:
    """Debian 12 with systemd as PID 1 and no engine; ada may sudo."""
    return box("systemd12")


@pytest.fixture
def laptop(tmp_path: Path, keyring: Keyring) -> Iterator[dict[str, str]]:
    """The environment of a fresh laptop: an empty HOME that reaches the boxes by ssh."""
    # short: the path of a unix socket has room for some 100 characters
    with tempfile.TemporaryDirectory(prefix="jb-") as runtime:
        yield write_laptop(tmp_path / "laptop", Path(runtime), keyring)
        end_ssh_masters(Path(runtime))
