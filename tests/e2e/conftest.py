"""What the end-to-end tests share: the box, what runs on it, and Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Playwright, sync_playwright

from tests.e2e.chromium import StartChromium, started_chromium
from tests.e2e.opened import Opened, opening
from tests.integration.boxes.fixtures import box, boxes, keyring, pytest_itemcollected, workbox
from tests.integration.jupbox_command import Laptop, MainJob, ada

__all__ = ["ada", "box", "boxes", "keyring", "pytest_itemcollected", "workbox"]


@pytest.fixture
def opened(ada: MainJob) -> Iterator[Opened]:
    """`jupbox open --no-browser`, running."""
    with opening(ada.laptop, "workbox", "--no-browser") as running:
        yield running


@pytest.fixture
def stranger(ada: MainJob, tmp_path: Path) -> Laptop:
    """The laptop with another home directory, in which nothing is trusted yet."""
    home = tmp_path / "home"
    home.mkdir()
    # as ordinary users have it: `trust` finds no tool for this machine's own store
    path = [entry for entry in ada.laptop.environ["PATH"].split(":") if "sbin" not in entry]
    return ada.laptop.at(ada.laptop.folder, HOME=str(home), PATH=":".join(path))


@pytest.fixture
def trusting(stranger: Laptop) -> Laptop:
    """The same after `jupbox trust`."""
    stranger.must("trust", "workbox")
    return stranger


# of a module: as long as it runs, no other test of this process may start an event loop
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Playwright's driver."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture
def chromium(playwright: Playwright, tmp_path: Path) -> Iterator[StartChromium]:
    """Starts a Chromium with a fresh profile on a laptop; all end with the test."""
    with started_chromium(playwright, tmp_path) as start:
        yield start
