"""Which of an engine's images is a base, and where a base comes from."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from jupbox.errors import BaseImageError
from jupbox.host import base as bases
from jupbox.host.base import Base
from jupbox.host.engine import Engine, Image
from jupbox.host.facts import parse
from jupbox.lock import BaseLock
from tests.unit.fakes import FakeMachine
from tests.unit.host.test_facts import answer

DIGEST = "sha256:" + "1" * 64
LOCK = BaseLock(reference="debian:trixie-slim", kind="rootfs", digest=DIGEST)
# what is built on a base inherits these
LABELS = {bases.LABEL: DIGEST, bases.REFERENCE_LABEL: LOCK.reference}


class FakeEngine:
    """Has images, and finds them by label or tag."""

    place = "workbox"

    def __init__(self, *images: Image) -> None:
        self._images = list(images)
        self.built: list[tuple[str, bytes]] = []

    def images(self, labels: Mapping[str, str]) -> list[Image]:
        return [i for i in self._images if labels.items() <= i.labels.items()]

    def image(self, reference: str) -> Image | None:
        return next((i for i in self._images if reference in i.tags), None)

    def pull(self, reference: str, *, timeout: float) -> bool:
        return False

    def build(self, context: Path, *, tag: str, labels: Mapping[str, str], **more: object) -> Image:
        self.built.append((tag, (context / "base.tar").read_bytes()))
        self._images.append(replace(BASE, id=tag, tags=(tag,), labels=labels))
        return self._images[-1]


def image(tag: str, *, layers: int) -> Image:
    return Image(
        id=tag, tags=(tag,), digests=(), layers=tuple(f"sha256:{n}" for n in range(layers)),
        labels=LABELS, architecture="amd64", size=1,
    )  # fmt: skip


def engine(*images: Image) -> Engine:
    return cast(Engine, FakeEngine(*images))


SEALED = image("jupbox-ada_workbox:seal-1", layers=7)
ENVIRONMENT = image("jupbox-env:minimal", layers=3)
BASE = image("jupbox-base:trixie-111111111111", layers=1)


def test_the_locked_base_is_no_image_that_was_built_on_it() -> None:
    found = bases.find(engine(SEALED, ENVIRONMENT, BASE), LOCK)
    assert found == bases.Base(lock=LOCK, reference=BASE.tags[0])


def test_a_base_that_is_gone_is_not_replaced_by_what_was_built_on_it() -> None:
    assert bases.find(engine(SEALED, ENVIRONMENT), LOCK) is None


def test_an_image_of_ones_own_on_a_base_has_a_root_filesystem_of_its_own() -> None:
    mine = image("mine:latest", layers=2)
    found = bases.find(
        engine(mine), BaseLock(reference="mine:latest", kind="rootfs", digest=DIGEST)
    )
    assert found is None


def test_a_new_lock_finds_the_base_and_not_what_was_built_on_it() -> None:
    found = bases.resolve(
        engine(SEALED, ENVIRONMENT, BASE),
        LOCK.reference,
        box=cast("bases.Machine", None),
        box_facts=cast("bases.HostFacts", None),
        epoch=0,
        say=lambda what: None,
    )
    assert found == bases.Base(lock=LOCK, reference=BASE.tags[0])


# --- bases that were made here before -----------------------------------------------------------

FACTS = parse(answer())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the bases that were made here; none can be made now."""

    def refuse(*_arguments: object, **_options: object) -> Base:
        raise BaseImageError("nothing is made here", remedy="none")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bases, "_bootstrap", refuse)
    return tmp_path / "cache" / "jupbox" / "bases"


def keep(folder: Path, content: bytes, *, age: float = 0, suite: str = "trixie") -> str:
    """Make a base that many seconds ago; its digest."""
    folder.mkdir(exist_ok=True)
    (folder / "base.tar").write_bytes(content)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    os.utime(folder / "base.tar", (time.time() - age,) * 2)
    bases._keep(folder / "base.tar", suite=suite, architecture="amd64", digest=digest)
    return digest


def lock_of(digest: str) -> BaseLock:
    return replace(LOCK, digest=digest)


def how(**changes: Any) -> dict[str, Any]:
    return {
        "box": FakeMachine(),
        "box_facts": FACTS,
        "epoch": 0,
        "say": lambda what: None,
    } | changes


def test_the_newest_few_bases_are_kept(cache: Path, tmp_path: Path) -> None:
    for age in (40, 10, 30, 20):
        keep(tmp_path / "work", b"%d" % age, age=age)
    assert sorted(path.read_bytes() for path in cache.iterdir()) == [b"10", b"20", b"30"]


def test_the_next_box_gets_the_very_base_that_is_locked(cache: Path, tmp_path: Path) -> None:
    wanted = keep(tmp_path / "work", b"wanted", age=90 * 86_400)
    keep(tmp_path / "work", b"newer")
    box = FakeEngine()
    found = bases.locked(cast(Engine, box), lock_of(wanted), **how())
    assert found is not None
    assert found.lock == lock_of(wanted)
    assert [content for _, content in box.built] == [b"wanted"]


def test_a_new_lock_takes_what_was_made_this_week(cache: Path, tmp_path: Path) -> None:
    keep(tmp_path / "work", b"older", age=86_400)
    digest = keep(tmp_path / "work", b"newer", age=3_600)
    found = bases.resolve(engine(), LOCK.reference, **how())
    assert found.lock == lock_of(digest)


@pytest.mark.parametrize(
    ("age", "suite", "architecture"),
    [(8 * 86_400, "trixie", "amd64"), (0, "bookworm", "amd64"), (0, "trixie", "arm64")],
)
def test_another_base_or_an_old_one_is_not_taken(
    cache: Path, tmp_path: Path, age: int, suite: str, architecture: str
) -> None:
    keep(tmp_path / "work", b"base", age=age, suite=suite)
    facts = replace(FACTS, architecture=architecture)
    with pytest.raises(BaseImageError, match="nothing is made here"):
        bases.resolve(engine(), LOCK.reference, **how(box_facts=facts))


# --- a locked base that the engine lacks --------------------------------------------------------


def made_with(monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
    """Whoever makes the base now gets these bytes."""
    made = Base(lock=lock_of(digest), reference="jupbox-base:new")
    monkeypatch.setattr(bases, "_bootstrap", lambda *words, **options: made)


def test_a_base_that_is_made_again_to_the_same_bytes_is_the_locked_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_with(monkeypatch, DIGEST)
    found = bases.locked(engine(), LOCK, **how())
    assert found == Base(lock=LOCK, reference="jupbox-base:new")


def test_a_base_that_is_made_again_with_other_bytes_is_not_the_locked_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_with(monkeypatch, "sha256:" + "9" * 64)
    assert bases.locked(engine(), LOCK, **how()) is None


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param(LOCK, id="cannot be made"),
        pytest.param(replace(LOCK, reference="mine:1"), id="one's own"),
        pytest.param(replace(LOCK, kind="registry"), id="no registry"),
    ],
)
def test_a_locked_base_that_cannot_be_had_is_none(cache: Path, lock: BaseLock) -> None:
    assert bases.locked(engine(), lock, **how()) is None
