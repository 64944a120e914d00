"""`up` cut short: by Ctrl-C at each stage, by a lost connection, by a full disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from jupbox import errors
from jupbox import labels as label
from jupbox.cli import INTERRUPTED
from tests.integration.boxes.boxes import BoxUnderTest, Keyring, running_box, wait_until
from tests.integration.errorbox import (
    Said,
    Terminal,
    files_of,
    holdings,
    leftovers,
    on_a_terminal,
    refused,
    two_lines,
    unchanged,
    write,
)
from tests.integration.jupbox_command import Laptop, StackOnBox, visiting
from tests.triggers import triggers

pytestmark = [pytest.mark.box, pytest.mark.slow, pytest.mark.xdist_group("box-errorbox")]

SMALL = """
[boxes.chain]
host = "errorbox"
image = "small"

[images.small]
extends = "minimal"
python = ["iniconfig"]
"""


@pytest.fixture
def project(errorbox: BoxUnderTest, desk: Laptop) -> Laptop:
    """A laptop with a project whose box is on errorbox."""
    write(desk, SMALL)
    return desk


@pytest.fixture
def stack(errorbox: BoxUnderTest) -> StackOnBox:
    return StackOnBox(box=errorbox, name="jupbox-ada_chain")


def interrupted(terminal: Terminal, *, presses: int = 1) -> Said:
    """Press Ctrl-C; what is then said, and that nothing of it still runs."""
    for _ in range(presses):
        terminal.ctrl_c()
    answer = terminal.end(timeout=60)
    assert answer.code == INTERRUPTED, answer.stderr
    assert "Traceback" not in answer.stderr
    return two_lines(answer.stderr)


def passing(box: BoxUnderTest) -> list[str]:
    """Containers that jupbox makes for a moment."""
    names = ("--filter", "name=jupbox-passing", "--format", "{{.Names}}")
    return box.exec("docker", "ps", "--all", *names).split()


def processes_in(folder: str) -> list[str]:
    """Programs of this machine whose command line names a folder."""
    done = subprocess.run(["ps", "-eww", "-o", "args="], check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if folder in line and line[:2] != "ps"]


def test_ctrl_c_while_a_base_is_made_leaves_neither_files_nor_programs(
    errorbox: BoxUnderTest, project: Laptop
) -> None:
    write(project, SMALL + 'base = "debian:bookworm-slim"\n')
    temporary = project.environ["TMPDIR"]
    with unchanged(errorbox), on_a_terminal(project, "up") as terminal:
        terminal.wait_for("making bookworm from Debian's packages")
        wait_until(lambda: "mmdebstrap" in "".join(processes_in(temporary)), "mmdebstrap")
        said = interrupted(terminal)
    assert said.wrong == 'Interrupted during "Locking small".'
    assert said.remedy.startswith("What runs on errorbox was not touched")
    assert leftovers(project) == []
    assert processes_in(temporary) == []
    assert files_of(project) == ["jupbox.toml"]


def test_an_up_that_is_interrupted_at_every_stage_ends_well_at_last(
    errorbox: BoxUnderTest, project: Laptop, stack: StackOnBox
) -> None:
    stack.remove()
    shown: list[str] = []

    def cut(at: str, title: str = "", *, presses: int = 1) -> Said:
        with on_a_terminal(project, "up") as terminal:
            terminal.wait_for(at)
            said = interrupted(terminal, presses=presses)
            shown.extend(line for line in terminal.text.splitlines() if " Password " in line)
        during = f' during "{title}"' if title else ""
        assert said.wrong == f"Interrupted{during}."
        assert leftovers(project) == []
        assert passing(errorbox) == []
        return said

    said = cut("asking apt for versions", "Locking small")
    assert "was not touched" in said.remedy
    assert files_of(project) == ["jupbox.toml"]

    said = cut("installing Python packages", "Building the environment image")
    assert "was not touched" in said.remedy
    assert files_of(project) == ["jupbox.lock", "jupbox.toml"]
    assert stack.images() == stack.volumes() == []

    title = "Sealing it with key, certificate and password"
    said = cut(title, title, presses=3)
    assert "was not touched" in said.remedy
    assert errorbox.exec("docker", "ps", "--quiet", "--filter", f"label={label.STACK}") == ""

    # it is held back until that is done, from before the first word of it
    said = cut("Starting the server")
    assert "was started" in said.remedy
    assert stack.inspect()["State"]["Running"]

    stack.docker("stop", stack.identity()[0])
    said = cut("Waiting for its answer", "Waiting for its answer over HTTPS")
    assert "was started" in said.remedy

    last = project.must("up")
    assert project.must("up").stdout.startswith("Nothing to do")
    shown.extend(line for line in last.stdout.splitlines() if " Password " in line)
    assert stack.inspect()["State"]["Health"]["Status"] in {"starting", "healthy"}
    assert len(stack.volumes()) == len({*stack.volumes()}) == 4, stack.volumes()
    ca = project.must("trust", "--print").stdout
    port = int(project.must("status", "--json").json["port"])
    with visiting(project, "errorbox", port, ca) as visitor:
        assert visitor.log_in(shown[-1].split()[1])


@pytest.fixture
def running(project: Laptop, stack: StackOnBox) -> StackOnBox:
    """The server of the project runs, whatever was tested before."""
    project.must("up")
    return stack


def test_a_connection_lost_while_building_is_said_so_and_the_next_up_goes_on(
    errorbox: BoxUnderTest, project: Laptop, running: StackOnBox
) -> None:
    write(project, SMALL.replace('"iniconfig"', '"iniconfig", "toolz"'))
    project.must("lock")
    with unchanged(errorbox):
        with on_a_terminal(project, "up") as terminal:
            terminal.wait_for("installing Python packages")
            errorbox.exec("pkill", "-KILL", "--euid", "ada", "sshd")
            said = refused(terminal.end(), errors.HostError)
        assert said.wrong == "The connection to errorbox was lost."
        assert "goes on from here" in said.remedy
        assert leftovers(project) == []
    before = running.identity()

    project.must("up")

    assert running.identity() != before
    running.python("import toolz")


@pytest.fixture
def fullbox(keyring: Keyring) -> Iterator[BoxUnderTest]:
    """A box whose engine has a disk of 330 MB."""
    with running_box("workbox", keyring, alias="fullbox") as box:
        box.exec("mount", "-t", "tmpfs", "-o", "size=330m", "tmpfs", "/var/lib/docker")
        box.kill_engine()
        yield box


@triggers(errors.DiskFullError)
def test_a_disk_that_is_full_while_building_is_said_so(
    errorbox: BoxUnderTest, fullbox: BoxUnderTest, project: Laptop, running: StackOnBox
) -> None:
    lock = (project.folder / "jupbox.lock").read_text()
    bases = errorbox.exec("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}",
                          "jupbox-base").split()  # fmt: skip
    save = ["docker", "exec", errorbox.container, "docker", "save", *bases]
    load = ["docker", "exec", "-i", fullbox.container, "docker", "load"]
    with subprocess.Popen(save, stdout=subprocess.PIPE) as saving:
        subprocess.run(load, check=True, stdin=saving.stdout, capture_output=True)
    write(project, SMALL.replace("errorbox", "fullbox"))

    with unchanged(fullbox):
        said = refused(project.jupbox("up"), errors.DiskFullError)

    assert said.wrong == "The disk of the Docker engine on fullbox is full."
    assert "docker system df" in said.remedy
    assert leftovers(project) == []
    assert (project.folder / "jupbox.lock").read_text() == lock
    assert holdings(fullbox).containers == []
