"""A week's diary: from the first `up` to a clean machine, on one box, with three laptops."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jupbox import errors
from tests.integration.boxes.boxes import BoxUnderTest, Keyring, running_box
from tests.integration.jupbox_command import (
    Laptop,
    MainJob,
    StackOnBox,
    new_laptop,
    visiting,
)

pytestmark = [pytest.mark.box, pytest.mark.slow]

BOX = "weekbox"
DISK = "2200m"


@pytest.fixture
def weekbox(ada: MainJob, keyring: Keyring) -> Iterator[BoxUnderTest]:
    """A box of its own, on a disk that can be filled; it has the base that ada's has."""
    with running_box("workbox", keyring, alias=BOX) as box:
        box.exec("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", "/var/lib/docker")
        box.kill_engine()
        form = "{{.Repository}}:{{.Tag}}"
        tags = ada.box.exec("docker", "images", "--format", form, "jupbox-base").split()
        save = ["docker", "exec", ada.box.container, "docker", "save", *tags]
        load = ["docker", "exec", "-i", box.container, "docker", "load"]
        with subprocess.Popen(save, stdout=subprocess.PIPE) as saving:
            subprocess.run(load, check=True, stdin=saving.stdout, capture_output=True)
        yield box


@pytest.fixture
def laptops(keyring: Keyring, tmp_path: Path) -> Iterator[dict[str, Laptop]]:
    """Ada's, her next one, and Bob's; he may log in as ada, as teams share an account."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(new_laptop(tmp_path / name, keyring))
            for name in ("ada", "next", "bob")
        }


def project_on(laptop: Laptop, folder: Path) -> Laptop:
    """The laptop, in a new folder of its own."""
    folder.mkdir(parents=True)
    return laptop.at(folder)


def notebooks(box: BoxUnderTest) -> str:
    """A hash over all of the user's folder on the host."""
    listing = box.exec("sh", "-c", "cd /home/ada/notebooks && find . -type f | sort | "
                       "xargs -r sha256sum")  # fmt: skip
    return hashlib.sha256(listing.encode()).hexdigest()


def logs_in(laptop: Laptop, stack: StackOnBox, password: str) -> bool:
    """Whether a browser gets in with a password, over verified HTTPS."""
    port = int(stack.inspect()["HostConfig"]["PortBindings"]["8888/tcp"][0]["HostPort"])
    authority = laptop.must("trust", BOX, "--print").stdout
    with visiting(laptop, BOX, port, authority) as visitor:
        return visitor.log_in(password)


def test_a_week(weekbox: BoxUnderTest, laptops: dict[str, Laptop], tmp_path: Path) -> None:
    stack = StackOnBox(box=weekbox, name=f"jupbox-ada_{BOX}")

    # Monday: a project, and the first `up`
    ada = project_on(laptops["ada"], tmp_path / "ada" / "experiment")
    ada.must("init", "--host", BOX, "--yes")
    password = ada.must("up").password
    assert password is not None
    assert logs_in(ada, stack, password)
    kernel = stack.start_kernel()
    stack.run_in_kernel(kernel, "open('monday.txt', 'w').write('42')")
    assert weekbox.exec("cat", "/home/ada/notebooks/monday.txt") == "42"

    # Tuesday: a package, at once and for good
    before = stack.identity()
    ada.must("add", "humanize")
    stack.run_in_kernel(kernel, "import humanize; assert '/side/' in humanize.__file__")
    assert stack.identity() == before
    assert "humanize" in ada.must("status").stdout
    ada.must("up")
    stack.python("import humanize; assert humanize.__file__.startswith('/opt/env')")
    assert "Drift" not in ada.must("status").stdout

    # Wednesday: the laptop is lost, and with it all that was on it
    ada.end_connections()
    shutil.rmtree(ada.folder)
    fresh = project_on(laptops["next"], tmp_path / "next" / "experiment")
    assert fresh.must("status", BOX, "--json").json["health"] == "healthy"
    before = stack.identity()
    fresh.must("init", "--from", BOX)
    dry = fresh.jupbox("up", "--dry-run")
    assert (dry.code, dry.stdout) == (0, ""), dry.stderr
    assert logs_in(fresh, stack, password)

    # Thursday: a colleague clones the project and rolls out a change
    bob = project_on(laptops["bob"], tmp_path / "bob" / "work")
    for name in ("jupbox.toml", "jupbox.lock"):
        shutil.copy(fresh.folder / name, bob.folder)
    certificate = bob.must("status", "--json").json["certificate"]["fingerprint"]
    bob.must("add", "toolz")
    assert bob.must("up").password is None
    stack.python("import toolz, humanize")
    status = bob.must("status", "--json").json
    assert status["certificate"]["fingerprint"] == certificate
    assert logs_in(bob, stack, password)

    # Friday: another password, with nothing lost
    kernel = stack.start_kernel()
    stack.run_in_kernel(kernel, "kept = 42")
    before = stack.identity()
    changed = bob.must("password", "--generate").password
    assert changed is not None
    assert logs_in(fresh, stack, changed)
    assert not logs_in(fresh, stack, password)
    stack.run_in_kernel(kernel, "assert kept == 42")
    assert stack.identity() == before

    # Saturday: the disk is full, and then it is not
    toml = bob.folder / "jupbox.toml"
    toml.write_text(toml.read_text().replace('"toolz"', '"toolz", "iniconfig"'))
    bob.must("lock")
    fill(weekbox)
    full = bob.jupbox("up")
    assert full.code == errors.DiskFullError.exit_code, full.stderr
    doctor = bob.jupbox("doctor", "--json")
    assert doctor.code == 2
    assert "disk" in {f["name"] for f in doctor.json["findings"] if f["severity"] == "error"}
    assert logs_in(bob, stack, changed)
    weekbox.exec("rm", "/var/lib/docker/ballast")
    bob.must("up")
    stack.python("import iniconfig")
    assert logs_in(bob, stack, changed)

    # Sunday: away with it, but not with the notebooks
    work = notebooks(weekbox)
    bob.must("rm", "--data", "--yes", input=f"{BOX}\n")
    for command in (("ps", "-a"), ("images",), ("volume", "ls"), ("network", "ls")):
        assert "jupbox" not in weekbox.exec("docker", *command)
    assert notebooks(weekbox) == work
    assert weekbox.exec("cat", "/home/ada/notebooks/monday.txt") == "42"
    assert bob.must("status", "--json").json["state"] == "absent"


def fill(box: BoxUnderTest) -> None:
    """Leave the engine's disk some 2 MB."""
    box.exec(
        "sh", "-c",
        "free=$(df --output=avail -k /var/lib/docker | tail -n 1); "
        "fallocate -l $((free - 2048))K /var/lib/docker/ballast",
    )  # fmt: skip
