"""Images from a registry: which one, from where, and whether it is the lock's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from jupbox import labels as label
from jupbox.console import Console
from jupbox.errors import EngineError, JupboxError, RegistryError
from jupbox.host.engine import Engine
from jupbox.host.inspected import Image
from jupbox.host.registry import Standing
from jupbox.lock import ImageLock, Lock, dump_lock
from jupbox.project import ImageDefinition
from jupbox.release import sharing
from jupbox.release.verifying import known_digest
from jupbox.render import LOCK_IN_IMAGE, environment_tag
from jupbox.site import Site
from tests.unit.fakes import FakeEngine, FakeStage, image
from tests.unit.release.bench import bench
from tests.unit.test_render import LOCK

MEASURED = "sha256:" + "7" * 64
REGISTRY = "registry.example.org/team/x"
REFERENCE = f"{REGISTRY}:{LOCK.digest()[:32]}-amd64"
RIGHT = {label.KIND: "environment", label.LOCK: LOCK.digest()}


@dataclass
class Registry(FakeEngine):
    """An engine with a registry behind it.

    Attributes:
        standing: what it finds there.
        serves: what a pull brings.
    """

    standing: Standing = Standing.THERE
    serves: Image | None = None
    refuses: str = ""
    pushed: list[str] = field(default_factory=list)

    def pull(self, reference: str, *, timeout: float) -> bool:
        if self.serves:
            self.all_images.append(replace(self.serves, tags=(reference,)))
        return self.serves is not None

    def push(self, reference: str) -> str:
        assert self.image(reference)
        self.pushed.append(reference)
        return self.refuses

    def unreachable(self) -> JupboxError | None:
        return None

    def remove_image(self, reference: str) -> None:
        named = [replace(i, tags=tuple(t for t in i.tags if t != reference))
                 for i in self.all_images]  # fmt: skip
        self.all_images = [i for i in named if i.tags]


def serving(lock: ImageLock = LOCK, labels: dict[str, str] | None = None) -> Registry:
    served = image("served", labels or RIGHT)
    text = dump_lock(Lock().with_image(lock)).encode()
    return Registry(serves=served, in_images={served.id: {f"{LOCK_IN_IMAGE}/image.lock": text}})


@dataclass
class Said:
    """A console that keeps its notes."""

    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def stage(self, title: str) -> Iterator[FakeStage]:
        yield FakeStage()


def site_of(engine: FakeEngine, place: str = "workbox") -> Site:
    engine.place = place
    return replace(bench().site, engine=cast(Engine, engine))


DEFINITION = replace(bench().site.project.image("minimal"), registry=REGISTRY)


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(engine: object, reference: str, **_: object) -> Standing:
        assert reference == REFERENCE
        return cast(Registry, engine).standing

    def here(site: Site) -> Site:
        raise EngineError("no engine here", remedy="none")

    def measure(site: Site, image: str, *, tools: str) -> str:
        assert site.engine.image(image) and site.engine.image(tools)
        return MEASURED

    monkeypatch.setattr(sharing.registries, "look", look)
    monkeypatch.setattr(sharing.verifying, "measure", measure)
    monkeypatch.setattr(sharing.workshop, "here", here)


def fetch(
    site: Site, made: Site, said: Said | None = None, definition: ImageDefinition = DEFINITION
) -> tuple[Site, Image] | None:
    return sharing.fetch(site, made, definition, LOCK, cast(Console, said or Said()))


def test_an_image_is_looked_for_by_its_lock_and_takes_the_name_of_one_that_was_built() -> None:
    engine = serving()
    site = site_of(engine)
    found = fetch(site, site)
    assert found is not None
    assert found[0] is site
    # and says which digest it was found to have
    assert found[1].tags[0] == environment_tag(LOCK)
    assert known_digest(cast(Image, site.engine.image(found[1].id))) == MEASURED


def test_a_definition_without_a_registry_asks_none() -> None:
    site = site_of(serving())
    assert fetch(site, site, definition=replace(DEFINITION, registry=None)) is None


def test_an_image_that_is_not_there_yet_is_no_error() -> None:
    said, site = Said(), site_of(Registry(standing=Standing.MISSING))
    assert fetch(site, site, said) is None
    assert said.notes == []


def test_a_registry_out_of_reach_is_noted() -> None:
    said, site = Said(), site_of(Registry(standing=Standing.UNREACHABLE))
    assert fetch(site, site, said) is None
    assert said.notes == ["registry.example.org is out of reach for workbox; the image is built."]


def test_what_the_box_does_not_reach_this_machine_may(monkeypatch: pytest.MonkeyPatch) -> None:
    local = site_of(serving(), "this machine")
    monkeypatch.setattr(sharing.workshop, "here", lambda site: local)
    site = site_of(Registry(standing=Standing.UNREACHABLE))
    found = fetch(site, site)
    assert found is not None
    assert found[0] is local


def test_a_login_is_asked_for_on_the_machine_whose_docker_has_it() -> None:
    site = site_of(Registry(standing=Standing.LOGIN))
    with pytest.raises(RegistryError, match=r"registry\.example\.org wants a login") as caught:
        fetch(site, site)
    assert "`docker login registry.example.org` on this machine" in caught.value.remedy


OTHER = replace(LOCK, epoch=LOCK.epoch + 1)


@pytest.mark.parametrize(
    "engine",
    [
        serving(labels={label.KIND: "environment", label.LOCK: OTHER.digest()}),
        serving(labels={label.KIND: "sealed", label.LOCK: LOCK.digest()}),
        serving(OTHER),
        Registry(serves=image("served", RIGHT)),
    ],
    ids=["another lock's label", "no environment", "another lock inside", "no lock inside"],
)
def test_another_image_than_the_locks_is_refused_and_does_not_stay(engine: Registry) -> None:
    site = site_of(replace(engine, all_images=[]))
    with pytest.raises(RegistryError, match="another image than the one of the lock"):
        fetch(site, site)
    assert cast(Registry, site.engine).all_images == []


@pytest.mark.parametrize(("recorded", "taken"), [(MEASURED, True), ("sha256:" + "8" * 64, False)])
def test_an_image_with_other_bytes_than_the_lock_records_is_refused(
    recorded: str, taken: bool
) -> None:
    lock = LOCK.with_recorded("amd64", recorded)
    site = site_of(serving())
    said = cast(Console, Said())
    if taken:
        assert sharing.fetch(site, site, DEFINITION, lock, said)
        return
    with pytest.raises(RegistryError, match="another image"):
        sharing.fetch(site, site, DEFINITION, lock, said)
    assert cast(Registry, site.engine).all_images == []


def test_an_image_of_another_architecture_is_refused() -> None:
    engine = serving()
    assert engine.serves is not None
    engine.serves = replace(engine.serves, architecture="s390x")
    with pytest.raises(RegistryError, match="another image"):
        fetch(site_of(engine), site_of(engine))


def test_a_pull_that_fails_is_an_error() -> None:
    site = site_of(Registry())
    with pytest.raises(RegistryError, match="workbox could not pull it"):
        fetch(site, site)


# --- push ---------------------------------------------------------------------------------------


def push(engine: Registry, definition: ImageDefinition = DEFINITION) -> str:
    built = image("jupbox-env:x", RIGHT)
    engine.all_images.append(built)
    return sharing.push(site_of(engine), definition, LOCK, built)


def test_an_image_is_pushed_by_its_lock_and_keeps_its_own_name() -> None:
    engine = Registry(standing=Standing.MISSING)
    assert push(engine) == REFERENCE
    assert engine.pushed == [REFERENCE]
    assert [i.tags for i in engine.all_images] == [("jupbox-env:x",)]


def test_a_refused_push_leaves_no_name_behind() -> None:
    engine = Registry(standing=Standing.MISSING, refuses="denied")
    with pytest.raises(RegistryError, match="did not take the image: denied"):
        push(engine)
    assert [i.tags for i in engine.all_images] == [("jupbox-env:x",)]


def test_a_registry_out_of_reach_takes_nothing() -> None:
    with pytest.raises(RegistryError, match="out of reach for workbox"):
        push(Registry(standing=Standing.UNREACHABLE))


def test_nothing_is_pushed_without_a_registry() -> None:
    with pytest.raises(RegistryError, match="no registry"):
        push(Registry(), replace(DEFINITION, registry=None))
