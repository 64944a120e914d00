"""`jupbox open` brings a dashboard's port along."""

from __future__ import annotations

import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.opened import Opened, opening
from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import Laptop, MainJob, StackOnBox

pytestmark = pytest.mark.slow

_PROJECT = """\
[boxes.dash]
host = "workbox"
port = "auto"
ports = [8501]
files = "volume"
"""


@pytest.fixture
def dash(ada: MainJob, tmp_path: Path) -> Iterator[Laptop]:
    """A box with one more port; it has the lock of what runs on workbox already."""
    (tmp_path / "jupbox.toml").write_text(_PROJECT)
    shutil.copy(ada.lock, tmp_path / "jupbox.lock")
    laptop = ada.laptop.at(tmp_path)
    try:
        laptop.must("up")
        yield laptop
    finally:
        StackOnBox(box=ada.box, name="jupbox-ada_dash").remove()


def fetched(opened: Opened, *, nth: int = 0) -> bytes:
    """What the dashboard says at the address that was printed the nth time."""
    found = re.findall(r"(http://localhost:\d+) leads to workbox's port 8501\.", opened.text)
    with urllib.request.urlopen(f"{found[nth]}/hello", timeout=30) as answer:
        return bytes(answer.read())


def answers(laptop: Laptop) -> bool:
    """Whether the dashboard does, beside the server."""
    look = "import urllib.request as r; r.urlopen('http://localhost:8501')"
    return laptop.jupbox("exec", "--", "python", "-c", look).code == 0


def test_a_dashboards_port_comes_along_and_comes_back(dash: Laptop, ada: MainJob) -> None:
    serve = "setsid python -m http.server 8501 > /dev/null 2>&1 < /dev/null &"
    dash.must("exec", "dash", "sh", "-c", f"echo from the box > hello; {serve}")
    wait_until(lambda: answers(dash), "the dashboard", timeout=60)
    with opening(dash, "--no-browser") as opened:
        assert fetched(opened) == b"from the box\n"
        ada.box.exec("pkill", "-KILL", "--uid", "ada", "--exact", "sshd-session")
        opened.wait_for(f"Connected again: {opened.url}")
        wait_until(lambda: opened.text.count("port 8501.") == 2, "its line", timeout=30)
        assert fetched(opened, nth=1) == b"from the box\n"
