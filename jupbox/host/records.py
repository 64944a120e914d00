"""Releases as a box keeps them: one container each that is created and never started.

Its labels hold the release's whole compose file, and as long as it is there no `docker image
prune` takes the release's sealed image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jupbox import composed as files
from jupbox import labels as label
from jupbox.composed import Composed
from jupbox.host.engine import Engine
from jupbox.host.inspected import Container
from jupbox.host.stack import Release, State, generation_of, remove_unused


@dataclass(frozen=True, kw_only=True)
class Record:
    """A release that can be brought back.

    Attributes:
        number: the generation of its seal.
        origin: the release whose file it is: its own number, or of a rollback the other's.
        container: the name of the container that stands for it.
        image: the sealed image's ID.
        composed: its compose file.
    """

    number: int
    origin: int
    container: str
    image: str
    labels: Mapping[str, str]
    composed: Composed

    @property
    def notebooks_in_home(self) -> bool:
        """Whether the notebooks lie in the home volume, and not in a folder of the host."""
        return files.label_of(self.composed, label.FILES) == "volume"


def records(engine: Engine, stack: str) -> tuple[Record, ...]:
    """The releases that are kept of a stack, newest first; one that cannot be read is left out."""
    found = engine.containers({label.STACK: stack, label.KIND: "release"})
    read = [record for each in found if (record := _record(each))]
    return tuple(sorted(read, key=lambda record: -record.number))


def _record(container: Container) -> Record | None:
    labels = container.labels
    try:
        number = int(labels[label.GENERATION])
        composed: dict[str, Any] = files.unpacked(labels[label.COMPOSE])
        origin = int(labels.get(label.ORIGIN, number))
    except (KeyError, ValueError):
        return None
    return Record(
        number=number,
        origin=origin,
        container=container.name,
        image=container.image,
        labels=labels,
        composed=composed,
    )


def keep(engine: Engine, release: Release, composed: Composed, *, stack: str) -> None:
    """Keep a release: its file, and its image from being pruned; a second time changes nothing."""
    name = f"{stack}-release-{release.generation}"
    if engine.container_exists(name):
        return
    labels = {
        **files.release_labels(composed),
        label.KIND: "release",
        label.STACK: stack,
        label.GENERATION: str(release.generation),
        label.COMPOSE: files.packed(composed),
    }
    engine.create_kept(name, release.reference, labels)


def drop(engine: Engine, record: Record) -> None:
    """Forget a release."""
    engine.remove_container(record.container)


def sweep(engine: Engine, state: State) -> bool:
    """Remove what a roll-out left that was cut off; whether there was anything.

    A candidate, and of a release that never ran the seal, the record, and the body that no other
    one has. Only for whoever holds the stack's lock.
    """
    left = engine.containers({label.STACK: state.name, label.KIND: "candidate"})
    for container in left:
        engine.remove_container(container.id, anonymous_volumes=True)
    abandoned = {release.generation for release in state.abandoned}
    for record in records(engine, state.name) if abandoned else ():
        if record.number in abandoned:
            drop(engine, record)
    for release in state.abandoned:
        for tag in release.image.tags or (release.image.id,):
            engine.remove_image(tag)
        engine.remove_volume(seal_volume(state.name, release.generation))
    staying = [release for release in state.releases if release.generation not in abandoned]
    for body in _bodies(state.abandoned) - _bodies(staying):
        engine.remove_image(body)
    return bool(left or abandoned)


def prune(engine: Engine, state: State, *, keep: int) -> None:
    """Remove what belongs to releases older than those that are kept; what is used stays.

    Args:
        engine: the stack's.
        state: with a container that answers, or none.
        keep: how many releases are kept, with the one that runs; a rollback counts as the release
            that it brought back.
    """
    newest = state.newest
    runs = runs_of(state) or (newest.generation if newest else 0)
    kept: dict[int, Record] = {}
    for record in sorted(records(engine, state.name), key=lambda each: each.number != runs):
        if len(kept) < keep and record.origin not in kept:
            kept[record.origin] = record
        else:
            drop(engine, record)
    needed = {record.number for record in kept.values()} | {runs}
    needed |= {newest.generation} if newest else set()
    going = [release for release in state.releases if release.generation not in needed]
    staying = [release for release in state.releases if release.generation in needed]
    for release in going:
        for tag in release.image.tags or (release.image.id,):
            engine.remove_image(tag)
    _prune_bodies(engine, state, staying)
    for volume in state.volumes:
        generation = generation_of(volume)
        if generation and generation not in needed and volume != state.seal_volume:
            engine.remove_volume(volume)
    # only of what this stack ran: another `up` may have built its own just now
    stays = {release.image.labels.get(label.LOCK) for release in staying}
    locks = {release.image.labels.get(label.LOCK) for release in going} - stays
    if locks:
        remove_unused(engine, locks)


def _prune_bodies(engine: Engine, state: State, staying: list[Release]) -> None:
    """Remove the parts of which no sealed image that stays was made."""
    for image in engine.images({label.STACK: state.name, label.KIND: "body"}):
        for tag in set(image.tags) - _bodies(staying):
            engine.remove_image(tag)
    needed = {release.image.labels.get(label.LOCK) for release in staying}
    for image in engine.images({label.STACK: state.name, label.KIND: "part"}):
        for tag in image.tags:
            # a transfer that was cut off and not gone on with; what is whole says what came
            if ":sent-" not in tag or image.labels.get(label.LOCK) not in needed:
                engine.remove_image(tag)


def _bodies(releases: Iterable[Release]) -> set[str]:
    """Of which images releases were sealed."""
    return {body for release in releases if (body := release.image.labels.get(label.BODY))}


def runs_of(state: State) -> int | None:
    """The number of the release that the stack's container is of."""
    if state.container is None:
        return None
    return int(state.container.labels.get(label.GENERATION, "0"))


def seal_volume(stack: str, generation: int) -> str:
    """The name of a generation's seal volume."""
    return f"{stack}_seal-{generation}"
