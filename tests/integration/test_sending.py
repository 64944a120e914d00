"""`build = "here"`: a box that has no network but ssh, at the end of a cable that counts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import zstandard

from jupbox import errors
from jupbox import labels as label
from tests.integration.boxes.boxes import BoxUnderTest, Keyring, running_box
from tests.integration.cable import Cable, laid
from tests.integration.errorbox import refused
from tests.integration.jupbox_command import Answer, Laptop, StackOnBox, new_laptop, visiting

SENDING = re.compile(r"sending layer (\d+) of (\d+)")
PROJECT = """
[images.far]
extends = "minimal"
python = [{python}]
[boxes.farbox]
image = "far"
build = "here"
"""


@dataclass(frozen=True, kw_only=True)
class Up:
    """What an `up` did.

    Attributes:
        sent: bytes that went through the cable to the box.
        images: the stack's own afterwards.
        environment: tag of the environment image, here as there.
        layers: of that image, the lowest first.
    """

    answer: Answer
    sent: int
    images: tuple[str, ...]
    environment: str = ""
    layers: tuple[str, ...] = ()

    @property
    def said(self) -> list[tuple[int, int]]:
        """The layers that it says it has sent: (which, of how many)."""
        return [(int(a), int(b)) for a, b in SENDING.findall(self.answer.stderr)]


@dataclass(kw_only=True)
class Far:
    """A laptop, the cable, and at its end a box without a network, with nothing on it at first.

    What happens there is a story; each part of it goes on with what the one before has left.
    """

    laptop: Laptop
    cable: Cable
    box: BoxUnderTest
    stack: StackOnBox

    @cached_property
    def interrupted(self) -> Up:
        """The first `up`, cut off while the second layer was on its way."""
        self._write("humanize")
        argv = [sys.executable, "-m", "jupbox", "up"]
        lines = []
        with subprocess.Popen(
            argv, env=dict(self.laptop.environ), cwd=self.laptop.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as running:  # fmt: skip
            assert running.stderr is not None
            for line in running.stderr:
                lines.append(line)
                if "sending layer 2" in line:
                    self.cable.cut_at = self.cable.sent + (1 << 20)
        answer = Answer(code=running.returncode, stdout="", stderr="".join(lines))
        return Up(answer=answer, sent=self.cable.sent, images=tuple(self.stack.images()))

    @cached_property
    def continued(self) -> Up:
        """The same command once more."""
        assert self.interrupted
        return self._up()

    @cached_property
    def login(self) -> bool:
        """Whether the server that then ran let its user in, and had what was asked for."""
        password = self.continued.answer.password or ""
        self.stack.python("import humanize")
        published = self.stack.inspect()["HostConfig"]["PortBindings"]["8888/tcp"]
        authority = self.laptop.must("trust", "farbox", "--print").stdout
        port = int(published[0]["HostPort"])
        with visiting(self.laptop, "farbox", port, authority) as visitor:
            return visitor.log_in(password)

    @cached_property
    def grown(self) -> Up:
        """`up` with one more package."""
        assert self.login
        self._write("humanize", "sympy")
        self.laptop.must("lock", "far", "--on", "farbox")
        up = self._up()
        self.stack.python("import sympy")
        return up

    @cached_property
    def again(self) -> Up:
        """`up` with nothing to do."""
        assert self.grown
        return self._up()

    @cached_property
    def left(self) -> str:
        """The images of the box after `rm`."""
        assert self.again
        self.laptop.must("rm", "farbox", "--yes")
        return self.box.exec("docker", "image", "ls", "--all", "--quiet")

    def _write(self, *python: str) -> None:
        packages = ", ".join(f'"{name}"' for name in python)
        (self.laptop.folder / "jupbox.toml").write_text(PROJECT.format(python=packages))

    def _up(self) -> Up:
        before = self.cable.sent
        answer = self.laptop.must("up")
        sent = self.cable.sent - before
        container = self.stack.inspect()
        lock = container["Config"]["Labels"][label.LOCK]
        found = self.laptop.run(
            *("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"),
            *("--filter", f"label={label.LOCK}={lock}"),
            *("--filter", f"label={label.KIND}=environment"),
        )
        environment = found.stdout.split()[0]
        shown = ("image", "inspect", "--format", "{{json .RootFS.Layers}}", environment)
        return Up(
            answer=answer,
            sent=sent,
            images=tuple(self.stack.images()),
            environment=environment,
            layers=tuple(json.loads(self.laptop.run("docker", *shown).stdout)),
        )


@pytest.fixture(scope="module")
def far(keyring: Keyring, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    folder = tmp_path_factory.mktemp("far")
    with ExitStack() as keep:
        # this store keeps layers as they come, and does not say which ones it has
        box = keep.enter_context(running_box("storebox", keyring, alias="farbox"))
        cable = keep.enter_context(laid(box.port))
        known = keyring.directory / "farbox.known_hosts"
        known.write_text(known.read_text().replace(f":{box.port} ", f":{cable.port} "))
        text = box.ssh_config.read_text().replace(f"Port {box.port}\n", f"Port {cable.port}\n")
        box.ssh_config.write_text(text)
        # no way out is left but to the machine that its port is published on
        box.exec("ip", "route", "del", "default")
        laptop = keep.enter_context(new_laptop(folder, keyring))
        (folder / "project").mkdir()
        keep.callback(forget_images, laptop)
        stack = StackOnBox(box=box, name="jupbox-ada_farbox")
        yield Far(laptop=laptop.at(folder / "project"), cable=cable, box=box, stack=stack)


def forget_images(laptop: Laptop) -> None:
    """Remove what these tests have built on this machine's engine."""
    mine = ("--filter", f"label={label.IMAGE}=far")
    listed = laptop.run("docker", "image", "ls", "--quiet", *mine)
    if ids := set(listed.stdout.split()):
        laptop.run("docker", "image", "rm", "--force", *ids)


pytestmark = [pytest.mark.slow, pytest.mark.box, pytest.mark.xdist_group("box-farbox")]


def test_a_cut_connection_leaves_the_layers_that_arrived(far: Far) -> None:
    said = refused(far.interrupted.answer, errors.HostError)
    assert "was lost" in said.wrong
    assert [n for n, _ in far.interrupted.said] == [1, 2]
    assert [":part-" in tag for tag in far.interrupted.images] == [True]


def test_the_next_up_sends_the_other_layers_alone(far: Far) -> None:
    total = far.interrupted.said[0][1]
    assert far.continued.said == [(n, total - 1) for n in range(1, total)]
    assert "Building" not in far.continued.answer.stderr
    assert not [tag for tag in far.continued.images if ":part-" in tag]


def test_a_box_that_has_no_network_but_ssh_gets_a_server(far: Far) -> None:
    assert far.login


def test_one_more_package_sends_little_more_than_the_layers_that_changed(far: Far) -> None:
    new = [layer for layer in far.grown.layers if layer not in far.continued.layers]
    assert len(far.grown.said) == len(new) < len(far.grown.layers)
    size = compressed(far.laptop, far.grown.environment, new)
    print(f"{far.grown.sent} bytes were sent for {size} bytes of layers")
    assert far.grown.sent < 1.1 * size


def test_an_up_with_nothing_to_do_sends_no_layer(far: Far) -> None:
    assert "Nothing to do" in far.again.answer.stdout
    assert far.again.sent < 100_000


def test_rm_leaves_nothing_of_a_transfer(far: Far) -> None:
    assert far.left == ""


def compressed(laptop: Laptop, image: str, layers: Sequence[str]) -> int:
    """What some layers of an image of the laptop are together, compressed; in bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        laptop.run("docker", "save", "--output", str(folder / "image.tar"), image)
        laptop.run("tar", "-xf", str(folder / "image.tar"), "-C", name)
        blobs = [folder / "blobs" / layer.replace(":", "/") for layer in layers]
        return sum(len(zstandard.compress(blob.read_bytes())) for blob in blobs)
