"""Environment images by way of a registry: looked for by their lock, checked, pushed."""

from __future__ import annotations

from contextlib import suppress

from jupbox import labels as label
from jupbox import render
from jupbox.console import Console
from jupbox.errors import EngineError, LockError, RegistryError
from jupbox.host import base as bases
from jupbox.host import registry as registries
from jupbox.host.inspected import Image
from jupbox.host.registry import Standing
from jupbox.lock import ImageLock, load_lock
from jupbox.project import ImageDefinition
from jupbox.release import verifying, workshop
from jupbox.site import Site

_PULL_SECONDS = 3600


def fetch(
    site: Site, made: Site, definition: ImageDefinition, lock: ImageLock, console: Console
) -> tuple[Site, Image] | None:
    """The image of a lock from its definition's registry, and whose engine has it now.

    The engine that would build it is asked first; a box that does not reach the registry may have
    it by way of this machine.

    Args:
        site: the box.
        made: where it would be built.

    Returns:
        None where there is none to be had.

    Raises:
        RegistryError: the registry wants a login, or serves another image.
    """
    if definition.registry is None:
        return None
    reference = reference_of(definition.registry, lock, architecture=site.facts.architecture)
    with console.stage(f"Looking for the image at {definition.registry}") as stage:
        for place in _places(site, made):
            standing = _look(place, reference)
            if standing is Standing.MISSING:
                return None
            if standing is Standing.THERE:
                stage.detail(f"pulling it to {place.machine.name}")
                return place, _pull(place, lock, reference)
    host = registries.host_of(reference)
    console.note(f"{host} is out of reach for {made.machine.name}; the image is built.")
    return None


def _places(site: Site, made: Site) -> list[Site]:
    if made is not site or site.machine.is_local:
        return [made]
    places = [made]
    with suppress(EngineError):  # no engine here, or of another architecture
        places.append(workshop.here(site))
    return places


def push(made: Site, definition: ImageDefinition, lock: ImageLock, image: Image) -> str:
    """Push an environment image to its definition's registry; its name there.

    Args:
        made: whose engine has the image.

    Raises:
        RegistryError: there is none, it wants a login, is out of reach, or takes it not in.
    """
    registry = registry_of(definition)
    reference = reference_of(registry, lock, architecture=made.facts.architecture)
    if _look(made, reference) is Standing.UNREACHABLE:
        raise RegistryError(
            f"{registries.host_of(registry)} is out of reach for {made.machine.name}, "
            "which has the image.",
            remedy="Mend that machine's way to the registry, then push again.",
        )
    made.engine.tag(image.id, reference)
    try:
        refused = made.engine.push(reference)
    finally:
        made.engine.remove_image(reference)
    if refused:
        raise RegistryError(
            f"{registry} did not take the image: {refused[:200]}",
            remedy=f"`docker login {registries.host_of(registry)}` on this machine as somebody "
            "who may push there.",
        )
    return reference


def registry_of(definition: ImageDefinition) -> str:
    """A definition's registry.

    Raises:
        RegistryError: it has none.
    """
    if definition.registry is None:
        raise RegistryError(
            f"The image {definition.name} has no registry to be pushed to.",
            remedy='Name one in its definition: registry = "HOST/PATH".',
        )
    return definition.registry


def reference_of(registry: str, lock: ImageLock, *, architecture: str) -> str:
    """What the image of a lock is called at a registry."""
    return f"{registry}:{lock.digest()[:32]}-{architecture}"


def _look(place: Site, reference: str) -> Standing:
    standing = registries.look(
        place.engine, reference, environ=place.around.environ, home=place.around.home
    )
    if standing is Standing.LOGIN:
        host = registries.host_of(reference)
        raise RegistryError(
            f"{host} wants a login.",
            # the credentials come from here, whichever engine pulls
            remedy=f"Run `docker login {host}` on this machine, then the same command again.",
        )
    return standing


def _pull(place: Site, lock: ImageLock, reference: str) -> Image:
    if not place.engine.pull(reference, timeout=_PULL_SECONDS):
        raise place.engine.unreachable() or RegistryError(
            f"{reference} is there, but {place.machine.name} could not pull it.",
            remedy=f"Look at what `docker pull {reference}` says there.",
        )
    image = place.engine.image(reference)
    try:
        if image is None:
            raise RegistryError(f"{reference} vanished.", remedy="Run the same command again.")
        check_pulled(place, lock, image, reference)
    finally:
        place.engine.remove_image(reference)
    return place.engine.image(render.environment_tag(lock)) or image


def check_pulled(place: Site, lock: ImageLock, image: Image, reference: str) -> None:
    """Look whether an image from a registry is the lock's, and give it the name of one.

    Raises:
        RegistryError: it is another one.
    """
    other = RegistryError(
        f"{reference} is another image than the one of the lock.",
        remedy="Find out who pushed it; `jupbox up --push` from a machine that has built the "
        "lock replaces it, or leave `registry` out.",
    )
    said = image.labels.get(label.KIND), image.labels.get(label.LOCK)
    right = said == ("environment", lock.digest()) and image.architecture in lock.platforms
    if not right or lock.digest() not in _locks_in(place, image):
        raise other
    tag = render.environment_tag(lock)
    place.engine.tag(image.id, tag)
    base = bases.find(place.engine, lock.platforms[image.architecture].base)
    # what hashes should not come from the image itself, but an engine that pulls may have no base
    digest = verifying.measure(place, tag, tools=base.reference if base else tag)
    if lock.recorded(image.architecture) not in {None, digest}:
        place.engine.remove_image(tag)
        raise other
    verifying.note_digest(place, image, digest)


def _locks_in(place: Site, image: Image) -> set[str]:
    """Digests of the locks that an image says it was built from."""
    try:
        with place.engine.scratch(image.id) as container:
            files = place.engine.get(container, render.LOCK_IN_IMAGE)
    except EngineError:  # of an image without a command no container can be made
        if lost := place.engine.unreachable():
            raise lost from None
        return set()
    digests = set()
    for content in files.values():
        with suppress(LockError):
            lock = load_lock(content.decode(errors="replace"), source="the image's lock")
            digests |= {each.digest() for each in lock.images.values()}
    return digests
