"""Commands that meet on one box: each has its turn, and the box knows whose it was."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jupbox.audit import Change
from jupbox.host import exclusion
from tests.e2e.opened import opening
from tests.integration.boxes.boxes import BoxUnderTest
from tests.integration.cable import Cable, laid
from tests.integration.jupbox_command import Laptop, MainJob, StackOnBox, Visitor
from tests.integration.terminal import on_a_terminal

pytestmark = pytest.mark.slow

_PROJECT = """\
[boxes.turns]
host = "workbox"
port = "auto"
files = "volume"
"""


@dataclass(frozen=True, kw_only=True)
class Two:
    """Two people with a laptop each, and one box."""

    ada: Laptop
    bob: Laptop
    job: MainJob

    def changes(self) -> list[dict[str, Any]]:
        """The record of the box, the newest last."""
        return list(self.ada.must("logs", "turns", "--audit", "--json").json)


@pytest.fixture
def two(ada: MainJob, other_laptop: Laptop, tmp_path: Path) -> Iterator[Two]:
    """A box that does not run yet; its image is there, so that an `up` takes seconds."""
    folders = []
    for name in ("ada", "bob"):
        folder = tmp_path / f"project-{name}"
        folder.mkdir()
        (folder / "jupbox.toml").write_text(_PROJECT)
        shutil.copy(ada.lock, folder / "jupbox.lock")
        folders.append(folder)
    stack = StackOnBox(box=ada.box, name="jupbox-ada_turns")
    try:
        yield Two(
            ada=ada.laptop.at(folders[0], LOGNAME="ada"),
            bob=other_laptop.at(folders[1], LOGNAME="bob"),
            job=ada,
        )
    finally:
        stack.remove()
        ada.box.exec("rm", "-f", *(f"{_state(stack.name)}.{end}" for end in ("lock", "audit")))


def _state(stack: str) -> str:
    return f"/home/ada/.local/state/jupbox/{stack}"


def test_of_five_at_once_one_changes_and_the_others_know_whom_to_blame(two: Two) -> None:
    ways = [(two.ada, ()), (two.bob, ("--wait",)), (two.ada, ("--wait",)), (two.bob, ())]
    ways.append((two.bob, ("--wait",)))
    with ThreadPoolExecutor(len(ways)) as pool:
        runs = [pool.submit(laptop.jupbox, "up", "turns", *more) for laptop, more in ways]
        done = [run.result() for run in runs]
    for (_, more), answer in zip(ways, done, strict=True):
        assert answer.code in ({0} if more else {0, 38}), answer.stderr
        if answer.code:
            assert " has been running `jupbox up` since " in answer.stderr
    assert [answer.password is not None for answer in done].count(True) == 1
    outcomes = [change["outcome"] for change in two.changes()]
    assert outcomes.count("done") == 1
    assert set(outcomes) == {"done", "nothing to do"}
    assert len(outcomes) == [answer.code for answer in done].count(0)

    # one that somebody thinks about, and whose laptop then loses its power
    with on_a_terminal(two.ada, "rm", "turns") as asked:
        asked.wait_for(r"Remove all of this of turns\? \[y/N\] ")
        refused = two.bob.jupbox("down", "turns")
        assert refused.code == 38
        assert "✗ ada@" in refused.stderr or "x ada@" in refused.stderr
        assert "has been running `jupbox rm` since " in refused.stderr
        assert (two.changes()[-1]["verb"], two.changes()[-1]["outcome"]) == ("rm", "running")
        asked.process.kill()
        asked.process.wait()
        killed = time.monotonic()
        down = two.bob.must("down", "turns")
        assert time.monotonic() - killed < 45  # no minute, as for one that vanished
    assert "(`rm`, since " in down.stderr
    assert "was left behind; taken over." in down.stderr
    *_, removal, stop = two.changes()
    assert (removal["who"].partition("@")[0], removal["outcome"]) == ("ada", "cut off")
    assert (stop["who"].partition("@")[0], stop["outcome"]) == ("bob", "done")
    table = two.ada.must("logs", "turns", "--audit", "--tail", "1").stdout.splitlines()
    assert len(table) == 2
    assert "down" in table[1]


def wired(laptop: Laptop, box: BoxUnderTest, cable: Cable) -> Laptop:
    """A laptop whose every ssh connection to the box goes through a cable."""
    configuration = Path(laptop.environ["HOME"], ".ssh", "config")
    configuration.write_text(
        f"Host {box.name}\n  Port {cable.port}\n"
        f"  HostKeyAlias [127.0.0.1]:{box.port}\n" + configuration.read_text()
    )
    return laptop


def test_a_laptop_that_vanished_from_the_network_loses_its_turn(
    ada: MainJob, other_laptop: Laptop
) -> None:
    """Its connection stands for the box's sshd: only its silence tells."""
    change = Change(id="1", who="bob@train", pid=1, verb="up")
    *argv, _ = exclusion.script_arguments(ada.stack.name, change, record=False)
    with laid(ada.box.port) as cable:
        train = wired(other_laptop, ada.box, cable)
        holder = subprocess.Popen(
            ["ssh", ada.box.name, shlex.join([*argv, "5"])],
            env=dict(train.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        with holder:
            assert holder.stdout is not None
            try:
                assert holder.stdout.readline().startswith(b"held ")
                with cable.swallowing():
                    answer = ada.jupbox("up", "--wait")
                    assert holder.poll() is None
            finally:
                holder.kill()
    assert "bob@train has been running `jupbox up` since " in answer.stderr
    assert "The lock of bob@train (`up`, since " in answer.stderr


def test_open_goes_over_to_another_connection_when_the_network_is_another(
    ada: MainJob, other_laptop: Laptop
) -> None:
    """The old connection stands, and nothing comes through it any more."""
    with (
        laid(ada.box.port) as cable,
        opening(wired(other_laptop, ada.box, cable), "workbox", "--no-browser") as opened,
    ):
        visitor = Visitor(address="127.0.0.1", port=opened.port, ca_pem=ada.ca_pem)
        assert visitor.request("GET", "/login") == 200
        cable.forget()
        with cable.swallowing():
            time.sleep(6)  # the fault itself
        back = time.monotonic()
        opened.wait_for(f"Connected again: {opened.url}")
        assert visitor.request("GET", "/login") == 200
        # 5 s on an idle machine (tests/faults/test_network.py), and tests run beside this one
        assert time.monotonic() - back < 15
