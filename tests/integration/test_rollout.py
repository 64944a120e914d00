"""From one release to the next and back, and what kernels have to do with it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jupbox import errors
from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import Laptop, MainJob, Visitor
from tests.triggers import triggers

pytestmark = [pytest.mark.box, pytest.mark.slow]

# Python itself refuses it, before a line of the server runs.
BROKEN = '{ PYTHONHASHSEED = "none" }'


@dataclass
class Team:
    """Ada's project for the box that her server runs on already."""

    job: MainJob
    laptop: Laptop
    number: int = 0

    def write(self, env: str) -> None:
        """Have the project say that environment."""
        self.laptop.folder.joinpath("jupbox.toml").write_text(
            f'[boxes.{self.job.box.name}]\nport = "auto"\nenv = {env}\n'
        )

    def change(self) -> None:
        """Have it say something that needs a new container, and works."""
        self.number += 1
        self.write(f'{{ ROUND = "{self.number}" }}')


@pytest.fixture
def team(ada: MainJob, tmp_path: Path) -> Iterator[Team]:
    shutil.copy(ada.lock, tmp_path / "jupbox.lock")
    yield Team(job=ada, laptop=ada.laptop.at(tmp_path))
    ada.jupbox("up", "--force")


@dataclass
class Probe:
    """What a visitor saw who asked all the time."""

    answers: list[bool] = field(default_factory=list)


@contextmanager
def probing(visitor: Visitor) -> Iterator[Probe]:
    """Ask ten times a second, as long as the block runs."""
    probe, over = Probe(), threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            try:
                probe.answers.append(visitor.request("GET", "/api") == 200)
            except OSError:
                probe.answers.append(False)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield probe
    finally:
        over.set()
        thread.join()


@triggers(errors.RolloutError)
def test_a_release_that_does_not_come_up_ends_beside_the_old_one(team: Team) -> None:
    stack = team.job.stack
    team.job.jupbox("up")
    before, images, volumes = stack.identity(), sorted(stack.images()), stack.volumes()
    team.write(BROKEN)
    with team.job.visitor() as visitor, probing(visitor) as probe:
        failed = team.laptop.jupbox("up", team.job.box.name)
    assert failed.code == errors.RolloutError.exit_code
    assert "PYTHONHASHSEED" in failed.stderr, "the last log lines say why"
    assert "Nothing was changed." in failed.stderr
    assert len(probe.answers) > 20
    assert all(probe.answers)
    assert (stack.identity(), sorted(stack.images())) == (before, images)
    assert sorted(stack.volumes()) == sorted(volumes)


@triggers(errors.KernelsBusyError)
def test_a_busy_kernel_is_not_ended_unless_told(team: Team) -> None:
    stack, box = team.job.stack, team.job.box.name
    team.change()
    team.laptop.must("up", box)
    kernel = stack.start_kernel()
    before = stack.identity()
    stack.python(
        "from jupyter_client import BlockingKernelClient, find_connection_file\n"
        f"client = BlockingKernelClient(connection_file=find_connection_file({kernel!r}))\n"
        "client.load_connection_file()\n"
        "client.start_channels(); client.wait_for_ready(timeout=60)\n"
        "client.execute('import time; time.sleep(600)')\n"
    )
    wait_until(lambda: stack.control("summary")["busy"] == 1, "the kernel at work", timeout=30)
    team.change()
    for verb in (("up", box), ("down", box), ("rm", box, "--yes"), ("rollback", box)):
        refused = team.laptop.jupbox(*verb)
        assert (refused.code, verb) == (errors.KernelsBusyError.exit_code, verb)
        assert "--when-idle" in refused.stderr
    assert stack.identity() == before
    team.laptop.must("up", box, "--force")
    assert stack.identity() != before


def test_a_rollback_brings_a_release_back_with_the_password_of_now(team: Team) -> None:
    stack, box = team.job.stack, team.job.box.name
    team.change()
    team.laptop.must("up", box)
    first = stack.python("import os; print(os.environ['ROUND'])")
    kept = team.laptop.must("rollback", box, "--list", "--json").json[0]["release"]
    team.change()
    team.laptop.must("up", box)
    assert stack.python("import os; print(os.environ['ROUND'])") != first
    team.laptop.must("password", box, "--stdin", input="a new password\n")
    with team.job.visitor() as visitor:
        fingerprint = visitor.fingerprint()
    team.laptop.must("rollback", box)
    assert stack.python("import os; print(os.environ['ROUND'])") == first
    with team.job.visitor() as visitor:
        assert visitor.fingerprint() == fingerprint
        assert visitor.log_in("a new password")
    listed = team.laptop.must("rollback", box, "--list", "--json").json
    assert (listed[0]["of"], listed[0]["state"]) == (kept, f"runs, release {kept} again")
    unknown = team.laptop.jupbox("rollback", box, "999")
    assert unknown.code == errors.UnknownNameError.exit_code
    assert str(listed[1]["release"]) in unknown.stderr
