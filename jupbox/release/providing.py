"""The environment image of a lock onto the box's engine: built there, or built here and sent."""

from __future__ import annotations

from jupbox import render
from jupbox.console import Console
from jupbox.host.inspected import Image
from jupbox.lock import ImageLock
from jupbox.project import ImageDefinition
from jupbox.release import building, sending, sharing, verifying, workshop
from jupbox.release.building import Rules
from jupbox.site import Site


def provide(
    site: Site, definition: ImageDefinition, lock: ImageLock, *, fresh: bool, rules: Rules,
    upgrade: bool, console: Console,
) -> tuple[ImageLock, Image]:  # fmt: skip
    """Have the environment image of a lock on the box; the lock too, as `building.build` says.

    Args:
        fresh: the lock was resolved in this very run.
        upgrade: an image of the newest recipe is wanted.
    """
    made = workshop.of(site)
    image = None
    if made is not site:
        image = building.environment_image(made, lock, newest_recipe=upgrade)
    if image is None and (fetched := sharing.fetch(site, made, definition, lock, console)):
        made, image = fetched
    if image is None:
        with console.stage("Building the environment image") as stage:
            lock, image = building.build(
                made, definition, lock, fresh=fresh, rules=rules, stage=stage, note=console.note
            )
    if made is site:
        return lock, image
    with console.stage(f"Sending the environment image to {site.machine.name}") as stage:
        sent = sending.send(site, made, image, tag=render.environment_tag(lock), stage=stage)
    if digest := _measured(made, image):
        verifying.note_digest(site, sent, digest)
    return lock, sent


def _measured(made: Site, image: Image) -> str | None:
    """An image's digest as it was found where it was made; its layers are the same bytes here."""
    again = made.engine.image(image.id)
    return verifying.known_digest(again) if again else None


def push(
    site: Site, definition: ImageDefinition, lock: ImageLock, image: Image, console: Console
) -> None:
    """Push the environment image of a lock to its definition's registry.

    Args:
        image: as the box has it.

    Raises:
        RegistryError: that cannot be.
    """
    made = workshop.of(site)
    here = None if made is site else building.environment_image(made, lock)
    with console.stage(f"Pushing the environment image to {sharing.registry_of(definition)}"):
        sharing.push(made if here else site, definition, lock, here or image)
