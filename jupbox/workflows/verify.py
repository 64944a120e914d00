"""`verify`: is an image, to the byte, what the lock says?"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from jupbox import contents, render
from jupbox import labels as label
from jupbox.console import Console, Stage
from jupbox.contents import Difference
from jupbox.errors import DriftError, LockError, UnknownNameError
from jupbox.host.inspected import Image
from jupbox.lock import RECIPE, ImageLock
from jupbox.project import ImageDefinition, Project
from jupbox.release import building, locking, verifying
from jupbox.site import Site, Surroundings, load_project
from jupbox.workflows.found import Found, container_of, look, place
from jupbox.workflows.turn import turn

_MOST_PATHS = 40


def verify(
    target: str | None,
    *,
    rebuild: bool,
    on: str | None,
    around: Surroundings,
    console: Console,
    wait: bool,
) -> None:
    """Compare an image with the lock's recorded digest, and with a build from nothing.

    Of an image that is not reproducible nothing is recorded; what differs is shown all the same.

    Args:
        target: an image, or a box whose running one is meant; None is the only box.
        rebuild: build it from nothing too, and compare every path.
        on: the box that has the image.

    Raises:
        DriftError: they differ.
        LockError: there is no lock to compare with.
        UnknownNameError: the box has no such image.
    """
    project = load_project(around)
    name = _image_name(project, target)
    box = project.box(on if name else target)
    with console.stage(f"Connecting to {place(box)}", live=False):
        found = look(project, box, around)
    seen = _of_image(found, name) if name else _of_box(found)
    site = found.site
    if seen.image is None and not rebuild:
        raise UnknownNameError(
            f"There is no image of the lock of {seen.lock.name} on {place(box)}.",
            remedy="`jupbox up` builds one, or add --rebuild here.",
        )
    with turn(site, "verify", console=console, wait=wait, record=False):
        digest = _measured(site, seen, console) if seen.image else None
        error = _compare(site, seen, digest, console) if digest else None
        if rebuild:
            error = _rebuild(site, seen, digest, console) or error
    if error:
        raise error


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What is to be looked at.

    Attributes:
        image: the environment image, None if the engine has none.
    """

    definition: ImageDefinition
    lock: ImageLock
    image: Image | None

    @property
    def tag(self) -> str:
        """What a build calls the image."""
        tags = self.image.tags if self.image else ()
        return tags[0] if tags else render.environment_tag(self.lock)


def _image_name(project: Project, target: str | None) -> str | None:
    """The image that the command line means; None where it means a box."""
    return target if target in project.images and target not in project.boxes else None


def _of_image(found: Found, name: str) -> _Seen:
    site = found.site
    definition = site.project.image(name)
    lock = locking.usable_lock(site, definition)
    if lock is None or site.facts.architecture not in lock.platforms:
        raise LockError(
            f"There is no lock for {name} on {site.facts.architecture}.",
            remedy=f"`jupbox lock {name} --on {site.box.name}` makes one.",
        )
    lock = lock.only(site.facts.architecture)
    return _Seen(definition=definition, lock=lock, image=building.environment_image(site, lock))


def _of_box(found: Found) -> _Seen:
    site = found.site
    container = container_of(found, running=False)
    lock = locking.running_lock(site, found.state)
    image = building.environment_image(site, lock) if lock else None
    if lock is None or image is None:
        raise UnknownNameError(
            f"The image that the server on {place(site.box)} was built from is not there any more.",
            remedy=f"`jupbox up{site.command}` after `jupbox down{site.command}` builds it again.",
        )
    running = site.engine.image(container.image)
    if running is None or running.layers[: len(image.layers)] != image.layers:
        raise DriftError(
            f"What runs on {place(site.box)} is not built on the image of its lock.",
            remedy=f"`jupbox up{site.command} --upgrade` makes it anew.",
        )
    kept = locking.read_lock(site).images.get(lock.name)
    if kept and kept.only(site.facts.architecture).digest() == lock.digest():
        lock = kept.only(site.facts.architecture)  # it has the recorded digest
    name = container.labels.get(label.IMAGE, lock.name)
    return _Seen(definition=site.project.image(name), lock=lock, image=image)


def _tools(site: Site, seen: _Seen, stage: Stage) -> str:
    """What hashes: the base, which is locked too; where the box has none, the image itself."""
    base = building.base_of(site, seen.lock, stage)
    return base.reference if base else seen.tag


def _measured(site: Site, seen: _Seen, console: Console) -> str:
    with console.stage(f"Measuring {seen.lock.name} on {place(site.box)}") as stage:
        digest = verifying.measure(site, seen.tag, tools=_tools(site, seen, stage))
        assert seen.image is not None, "it was looked for"
        verifying.note_digest(site, seen.image, digest)
    return digest


def _compare(site: Site, seen: _Seen, digest: str, console: Console) -> DriftError | None:
    """Say how an image compares with the record; the error where it is another one."""
    name, recorded = seen.lock.name, seen.lock.recorded(site.facts.architecture)
    console.facts([("Lock", seen.lock.digest()), ("Image", digest)])
    if seen.lock.recipe != RECIPE:
        console.note(
            "The lock is of another version of jupbox's Dockerfiles; `jupbox lock` brings it up."
        )
    if not seen.lock.reproducible:
        console.note(f"{verifying.promises_nothing(seen.lock)}: there is nothing to compare with.")
    elif recorded is None:
        console.note("The lock records no digest to compare with yet.")
    elif recorded != digest:
        return DriftError(
            f"{name} on {place(site.box)} is not the image that the lock records "
            f"({digest[:19]}…, not {recorded[:19]}…).",
            remedy=f"`jupbox verify {name} --rebuild` lists what a build from nothing has else.",
        )
    else:
        console.line(f"{name} on {place(site.box)} is what the lock records, to the byte.")
    return None


def _rebuild(site: Site, seen: _Seen, digest: str | None, console: Console) -> DriftError | None:
    """Build from nothing, and compare with the image that is there, else with the record."""
    tag = f"{render.ENVIRONMENT}:rebuilt-{secrets.token_hex(6)}"
    try:
        with console.stage(f"Building {seen.lock.name} from nothing") as stage:
            base = building.base_of(site, seen.lock, stage)
            if base is None:
                raise building.out_of_reach(site, seen.lock)
            building.build_image(site, seen.definition, seen.lock, base, stage, anew=tag)
            stage.detail("measuring it")
            again = verifying.measure(site, tag, tools=base.reference)
            differing = (
                _differences(site, seen.tag, tag, base.reference)
                if digest and again != digest
                else ()
            )
    finally:
        site.engine.remove_image(tag)
    if digest is None:
        return _compare(site, seen, again, console)
    if again == digest:
        console.line("A build from nothing gives the same, to the byte.")
        return None
    return _drifted(seen, differing, console)


def _drifted(seen: _Seen, differing: tuple[Difference, ...], console: Console) -> DriftError | None:
    """Say which paths differ; an error unless the definition lets them."""
    for one in differing[:_MOST_PATHS]:
        console.plain(f"  {one.path}: {one.what}")
    if len(differing) > _MOST_PATHS:
        console.plain(f"  and {len(differing) - _MOST_PATHS} more")
    if not seen.lock.reproducible:
        console.line(
            f"{len(differing)} paths of {seen.lock.name} differ from a build from nothing, as its "
            "definition lets them."
        )
        return None
    return DriftError(
        f"{len(differing)} paths of {seen.lock.name} differ from a build from nothing.",
        remedy="`jupbox up --allow-drift` goes on with what there is; say which package it is to "
        "whoever makes it.",
    )


def _differences(site: Site, tag: str, other: str, tools: str) -> tuple[Difference, ...]:
    _, first = verifying.contents(site, tag, tools=tools)
    _, second = verifying.contents(site, other, tools=tools)
    return contents.differences(first, second)
