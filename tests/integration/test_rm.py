"""`jupbox rm`: nothing is left of a box but what is the user's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.jupbox_command import Laptop, MainJob, StackOnBox
from tests.integration.terminal import on_a_terminal

pytestmark = pytest.mark.slow

_STACK = "jupbox-ada_tidy"
_FOLDER = "/home/ada/tidy-notebooks"
_PROJECT = f"""\
[boxes.tidy]
host = "workbox"
port = "auto"
files = "{_FOLDER}"
"""


@dataclass(frozen=True, kw_only=True)
class Tidy:
    """A second box of ada's on workbox, up, from a laptop where it is trusted.

    Attributes:
        password: what `up` showed.
    """

    job: MainJob
    laptop: Laptop
    stack: StackOnBox
    password: str

    def named_on_the_engine(self) -> dict[str, set[str]]:
        """What the engine has whose name says that it is the stack's."""
        commands = {
            "containers": ("ps", "--all", "--format", "{{.Names}}"),
            "images": ("image", "ls", "--format", "{{.Repository}}:{{.Tag}}"),
            "volumes": ("volume", "ls", "--format", "{{.Name}}"),
            "networks": ("network", "ls", "--format", "{{.Name}}"),
        }
        return {
            kind: {name for name in self.stack.docker(*command).split() if _STACK in name}
            for kind, command in commands.items()
        }

    def files(self) -> str:
        """Names, owners, times and content of the user's folder."""
        script = 'find "$1" -printf "%p %u %g %m %T@\\n" | sort; find "$1" -type f | xargs md5sum'
        return self.job.box.exec("sh", "-c", script, "sh", _FOLDER)

    def contexts(self) -> list[str]:
        """The laptop's Docker contexts."""
        return self.laptop.run("docker", "context", "ls", "--format", "{{.Name}}").stdout.split()

    def trusted(self) -> str:
        """What the laptop's browsers trust."""
        database = Path(self.laptop.environ["HOME"], ".pki", "nssdb")
        return self.laptop.run("certutil", "-L", "-d", f"sql:{database}").stdout

    def locks(self) -> list[str]:
        """The locks of changes on the box."""
        return self.job.box.exec("ls", "/home/ada/.local/state/jupbox").split()

    def home(self, command: str) -> str:
        """What a command in the notebook's home directory prints."""
        return self.laptop.must("exec", "tidy", "--", "sh", "-c", f"cd; {command}").stdout


@pytest.fixture
def tidy(ada: MainJob, tmp_path: Path) -> Iterator[Tidy]:
    """Up in seconds: it has the lock of what runs on the box already."""
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()
    home.mkdir()
    (project / "jupbox.toml").write_text(_PROJECT)
    shutil.copy(ada.lock, project / "jupbox.lock")
    # as ordinary users have it: `trust` finds no tool for this machine's own store
    path = [entry for entry in ada.laptop.environ["PATH"].split(":") if "sbin" not in entry]
    laptop = ada.laptop.at(project, HOME=str(home), PATH=":".join(path))
    stack = StackOnBox(box=ada.box, name=_STACK)
    try:
        first = laptop.must("up", "tidy")
        laptop.must("trust", "tidy")
        yield Tidy(job=ada, laptop=laptop, stack=stack, password=first.password or "")
    finally:
        stack.remove()
        ada.box.exec("rm", "-rf", _FOLDER)


def test_rm_leaves_the_users_own_and_a_new_up_finds_it(tidy: Tidy) -> None:
    others = tidy.job.stack.identity()
    tidy.home("echo kept > .kept; echo work > notebooks/work.txt")
    files = tidy.files()
    assert ("jupbox-tidy" in tidy.contexts(), "tidy" in tidy.trusted()) == (True, True)
    assert f"{_STACK}.lock" in tidy.locks()

    with on_a_terminal(tidy.laptop, "rm", "tidy") as terminal:
        terminal.wait_for(r"Remove all of this of tidy\? \[y/N\] ")
        terminal.type("\r")
        assert terminal.wait() == 37
    tidy.stack.inspect()

    done = tidy.laptop.must("rm", "tidy", "--yes")
    assert f"{_STACK}_home (settings, packages installed on the side); --data" in done.stdout
    assert f"workbox:{_FOLDER}\n" in done.stdout
    left: dict[str, set[str]] = {"containers": set(), "images": set(), "networks": set()}
    assert tidy.named_on_the_engine() == {**left, "volumes": {f"{_STACK}_home"}}
    assert (tidy.contexts(), "tidy" in tidy.trusted()) == (["default"], False)
    assert f"{_STACK}.lock" not in tidy.locks()
    assert f"{tidy.job.stack.name}.lock" in tidy.locks()
    assert tidy.files() == files

    # the other box and the image that both are made of
    assert tidy.job.stack.identity() == others
    assert "jupbox-env:minimal" in tidy.stack.docker(
        "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"
    )
    assert tidy.job.jupbox("status", "--json").json["url"]

    again = tidy.laptop.must("rm", "tidy")
    assert again.stdout == (
        f"Nothing to do: only {_STACK}_home is left on workbox; --data removes it.\n"
    )
    up = tidy.laptop.must("up", "tidy")
    assert up.password not in {None, tidy.password}
    assert tidy.home("cat .kept notebooks/work.txt") == "kept\nwork\n"


def test_rm_of_data_asks_for_the_name_and_goes_on_past_what_is_in_use(tidy: Tidy) -> None:
    tidy.home("echo work > notebooks/work.txt")
    files = tidy.files()
    whole = tidy.named_on_the_engine()
    for answer in ("", "yes\n", "workbox\n"):
        assert tidy.laptop.jupbox("rm", "tidy", "--data", "--yes", input=answer).code == 37
    assert tidy.named_on_the_engine() == whole

    # half there, and its image in somebody's hands
    tidy.stack.docker("rm", "--force", str(tidy.stack.inspect()["Id"]))
    (sealed,) = [image for image in whole["images"] if ":seal-" in image]
    tidy.stack.docker("create", "--name", "somebodys", sealed, "true")
    try:
        done = tidy.laptop.must("rm", "tidy", "--data", input="tidy\n")
        assert f"image {sealed} stayed: " in done.stderr
        assert "somebodys" in tidy.stack.docker("ps", "--all", "--format", "{{.Names}}")
    finally:
        tidy.stack.docker("rm", "--force", "somebodys")
    rest = tidy.named_on_the_engine()
    assert rest == {"containers": set(), "images": {sealed}, "volumes": set(), "networks": set()}
    assert tidy.files() == files

    assert sealed in tidy.laptop.must("rm", "tidy", "--yes").stdout
    assert set().union(*tidy.named_on_the_engine().values()) == set()
    nothing = tidy.laptop.must("rm", "tidy", "--data")
    assert nothing.stdout == "Nothing to do: nothing of tidy is left on workbox or here.\n"


def test_rm_of_a_name_that_nothing_has_touches_no_other_box(ada: MainJob) -> None:
    before = ada.stack.identity()
    done = ada.laptop.must("rm", "workbox/other", "--yes")
    assert done.stdout.startswith("Nothing to do: ")
    assert ada.stack.identity() == before
