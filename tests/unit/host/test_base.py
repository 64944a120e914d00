"""Which of an engine's images is a base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from jupbox.host import base as bases
from jupbox.host.engine import Engine, Image
from jupbox.lock import BaseLock

DIGEST = "sha256:" + "1" * 64
LOCK = BaseLock(reference="debian:trixie-slim", kind="rootfs", digest=DIGEST)
# what is built on a base inherits these
LABELS = {bases.LABEL: DIGEST, bases.REFERENCE_LABEL: LOCK.reference}


class FakeEngine:
    """Has images, and finds them by label or tag."""

    def __init__(self, *images: Image) -> None:
        self._images = images

    def images(self, labels: Mapping[str, str]) -> list[Image]:
        return [i for i in self._images if labels.items() <= i.labels.items()]

    def image(self, reference: str) -> Image | None:
        return next((i for i in self._images if reference in i.tags), None)


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
