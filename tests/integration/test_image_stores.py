"""Images from one kind of image store to the same and to the other, on real engines."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from jupbox import labels as label
from jupbox.console import Stage
from jupbox.host import facts as host_facts
from jupbox.host.engine import Engine
from jupbox.host.inspected import Image
from jupbox.host.machine import LocalMachine
from jupbox.project import Box, parse_project
from jupbox.release import sending
from jupbox.site import Site, Surroundings
from tests.integration.boxes.boxes import BoxUnderTest, wait_until


@contextmanager
def engine_of(box: BoxUnderTest, laptop: dict[str, str]) -> Iterator[Engine]:
    """A box's engine, through a forwarded socket."""
    with tempfile.TemporaryDirectory(prefix="jb-") as folder:
        socket = Path(folder, "docker.sock")
        command = ["ssh", "-N", "-L", f"{socket}:/var/run/docker.sock", f"{box.name}-root"]
        forward = subprocess.Popen(command, env=laptop, stdin=subprocess.DEVNULL)
        try:
            wait_until(socket.exists, f"engine of {box.name}", timeout=30)
            yield Engine(socket, place=box.name)
        finally:
            forward.terminate()
            forward.wait()


class Heard:
    """A stage that keeps what it is told."""

    def __init__(self) -> None:
        self.details: list[str] = []

    def detail(self, text: str) -> None:
        self.details.append(text)

    def log(self, line: str) -> None:
        pass


def site_of(engine: Engine, name: str) -> Site:
    project = parse_project(
        '[images.x]\npython = ["jupyterlab"]', source="x", root=None, user_text=None,
        user_source="x", shipped={},
    )  # fmt: skip
    return Site(
        project=project,
        box=Box(name=name, host=name),
        machine=LocalMachine(),
        facts=host_facts.look(LocalMachine()),
        engine=engine,
        around=Surroundings(),
    )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An engine that builds, one that receives, and the images that are made for it."""

    source: Site
    target: Site
    name: str

    def build(self, folder: Path, *contents: bytes) -> Image:
        """An image with a layer for each."""
        lines = ["FROM scratch"]
        for number, content in enumerate(contents):
            (folder / f"file-{number}").write_bytes(content)
            lines.append(f"COPY file-{number} /")
        (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
        labels = {label.KIND: "environment", label.LOCK: f"lock-{len(contents)}"}
        return self.source.engine.build(
            folder, tag=f"jupbox-env:{self.name}-{len(contents)}", labels=labels, secrets={},
            on_line=lambda line: None,
        )  # fmt: skip

    def send(self, image: Image) -> tuple[Image, list[str]]:
        """The image as it arrived, and what was said of layers."""
        stage = Heard()
        sent = sending.send(
            self.target, self.source, image, tag=image.tags[0], stage=cast(Stage, stage)
        )
        return sent, [text.partition(" (")[0] for text in stage.details if "sending" in text]

    def build_upon(self, folder: Path, image: Image) -> None:
        """Build on top of an image that arrived, which needs all that is in it."""
        (folder / "more").write_text("more")
        (folder / "Dockerfile").write_text(f"FROM {image.tags[0]}\nCOPY more /\n")
        self.target.engine.build(
            folder, tag=f"jupbox-env:{self.name}-more", labels={}, secrets={},
            on_line=lambda line: None,
        )  # fmt: skip

    def forget(self) -> None:
        """Remove what was made on both."""
        for site in (self.source, self.target):
            for image in (*site.engine.tagged("jupbox-env"), *sending.parts(site)):
                for tag in image.tags:
                    if tag.startswith((f"jupbox-env:{self.name}", site.stack)):
                        site.engine.remove_image(tag)


@contextmanager
def pair(source: Engine, target: Engine) -> Iterator[Pair]:
    name = f"t{uuid4().hex[:8]}"
    made = Pair(source=site_of(source, name), target=site_of(target, name), name=name)
    try:
        yield made
    finally:
        made.forget()


def here() -> Engine:
    return Engine(Path("/var/run/docker.sock"), place="this machine")


def check(engines: Pair, folder: Path) -> tuple[Image, Image]:
    """Send an image, and one that is larger by a layer; the first as built and as arrived."""
    contents = [uuid4().bytes * 1000 for _ in range(3)]
    built = engines.build(folder, *contents[:2])
    arrived, said = engines.send(built)
    assert said == ["sending layer 1 of 2", "sending layer 2 of 2"]
    assert (arrived.labels, arrived.layers) == (built.labels, built.layers)
    larger, said = engines.send(engines.build(folder, *contents))
    assert said == ["sending layer 1 of 1"]
    engines.build_upon(folder, larger)
    assert not [
        tag for each in sending.parts(engines.target) for tag in each.tags if ":part" in tag
    ]
    return built, arrived


@pytest.mark.slow
def test_between_engines_that_keep_layers_on_disk(
    workbox: BoxUnderTest, laptop: dict[str, str], tmp_path: Path
) -> None:
    with engine_of(workbox, laptop) as target, pair(here(), target) as engines:
        built, arrived = check(engines, tmp_path)
        assert arrived.id == built.id


@pytest.mark.slow
def test_between_engines_that_keep_layers_as_they_came(
    storebox: BoxUnderTest, laptop: dict[str, str], tmp_path: Path
) -> None:
    with engine_of(storebox, laptop) as both, pair(both, both) as engines:
        built, arrived = check(engines, tmp_path)
        assert arrived.id == built.id


@pytest.mark.slow
def test_from_layers_as_they_came_to_layers_on_disk(
    storebox: BoxUnderTest, laptop: dict[str, str], tmp_path: Path
) -> None:
    with engine_of(storebox, laptop) as source, pair(source, here()) as engines:
        check(engines, tmp_path)


@pytest.mark.slow
def test_from_layers_on_disk_to_layers_as_they_came(
    storebox: BoxUnderTest, laptop: dict[str, str], tmp_path: Path
) -> None:
    with engine_of(storebox, laptop) as target, pair(here(), target) as engines:
        check(engines, tmp_path)
