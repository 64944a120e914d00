"""Which way an environment image takes to the box."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from jupbox import labels as label
from jupbox.console import Console
from jupbox.host.engine import Engine
from jupbox.host.inspected import Image
from jupbox.lock import ImageLock
from jupbox.release import providing
from jupbox.release.building import Rules
from jupbox.release.verifying import known_digest
from jupbox.render import environment_tag
from jupbox.site import Site
from tests.unit.fakes import FakeEngine, FakeStage, image
from tests.unit.release.bench import bench
from tests.unit.test_render import LOCK

ENVIRONMENT = {label.KIND: "environment", label.LOCK: LOCK.digest()}
DIGEST = "sha256:" + "5" * 64


@dataclass
class Heard:
    """A console that keeps the titles of stages."""

    titles: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.titles.append(text)

    @contextmanager
    def stage(self, title: str) -> Iterator[FakeStage]:
        self.titles.append(title.partition(" the ")[0])
        yield FakeStage()


@dataclass
class Ways:
    """A box, this machine, and what was done between them."""

    box: Site
    here: Site
    registry: tuple[Site, Image] | None = None
    heard: Heard = field(default_factory=Heard)

    def provide(self) -> Image:
        lock, found = providing.provide(
            self.box, self.box.project.image("minimal"), LOCK, fresh=False, rules=Rules(),
            upgrade=False, console=cast(Console, self.heard),
        )  # fmt: skip
        assert lock == LOCK
        return found


def built() -> Image:
    return image(environment_tag(LOCK), ENVIRONMENT, id="sha256:built")


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    made = Ways(box=bench().site, here=replace(bench().site, engine=cast(Engine, FakeEngine())))

    def build(site: Site, *_: object, **__: object) -> tuple[ImageLock, Image]:
        cast(FakeEngine, site.engine).all_images.append(built())
        providing.verifying.note_digest(site, built(), DIGEST)
        return LOCK, built()

    def send(site: Site, source: Site, sent: Image, **_: Any) -> Image:
        assert source.engine.image(sent.id)
        arrived = replace(built(), id="sha256:arrived")
        cast(FakeEngine, site.engine).all_images.append(arrived)
        return arrived

    monkeypatch.setattr(providing.building, "build", build)
    monkeypatch.setattr(providing.sending, "send", send)
    monkeypatch.setattr(providing.sharing, "fetch", lambda *_: made.registry)
    monkeypatch.setattr(providing.workshop, "of", lambda site: made.box)
    return made


@pytest.fixture
def elsewhere(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> Ways:
    monkeypatch.setattr(providing.workshop, "of", lambda site: ways.here)
    return ways


def on(site: Site) -> list[str | None]:
    """The digests that are known of what an engine has."""
    return [known_digest(each) for each in cast(FakeEngine, site.engine).all_images]


def test_a_box_that_builds_by_itself_is_sent_nothing(ways: Ways) -> None:
    ways.provide()
    assert ways.heard.titles == ["Building"]
    assert (on(ways.box), on(ways.here)) == ([DIGEST], [])


def test_what_is_built_here_is_sent_and_as_well_known_there(elsewhere: Ways) -> None:
    assert elsewhere.provide().id == "sha256:arrived"
    assert elsewhere.heard.titles == ["Building", "Sending"]
    assert on(elsewhere.box) == [DIGEST]


def test_what_was_built_here_before_is_only_sent(elsewhere: Ways) -> None:
    cast(FakeEngine, elsewhere.here.engine).all_images.append(built())
    elsewhere.provide()
    assert elsewhere.heard.titles == ["Sending"]
    # nobody has measured it
    assert on(elsewhere.box) == [None]


def test_what_a_registry_has_is_not_built(ways: Ways) -> None:
    ways.registry = (ways.box, built())
    assert ways.provide() == built()
    assert ways.heard.titles == []


def test_what_only_this_machine_got_from_a_registry_is_sent(ways: Ways) -> None:
    cast(FakeEngine, ways.here.engine).all_images.append(built())
    ways.registry = (ways.here, built())
    assert ways.provide().id == "sha256:arrived"
    assert ways.heard.titles == ["Sending"]
