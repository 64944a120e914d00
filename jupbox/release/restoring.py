"""A fresh home volume for a backup, and the stack onto that volume.

While the fresh volume is not whole, or not in use yet, an empty volume beside it says so: whatever
ends a restore half way leaves a stack that runs, and starts again, with what it had.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupbox import composed as files
from jupbox import labels as label
from jupbox.composed import Composed
from jupbox.errors import BackupError, EngineError, PortTakenError
from jupbox.host import records
from jupbox.host import stack as stacks
from jupbox.host.records import Record
from jupbox.host.signals import uninterrupted
from jupbox.host.stack import Release, State, home_name, restoring_name
from jupbox.override import NOTEBOOK
from jupbox.release import deploying
from jupbox.site import Site


def settle(site: Site, state: State) -> State:
    """Remove what restores that were cut off left; the state then.

    A volume that the stack runs with stays: that restore was cut off after its swap.

    Raises:
        EngineError: it cannot be removed.
    """
    numbers = {name: n for name in state.volumes if (n := state.restoring_number(name))}
    if numbers:
        _remove_half_made(site, state)
    for mark, number in numbers.items():
        half = home_name(site.stack, number)
        if half != state.home_volume and (why := site.engine.remove("volume", half)):
            raise EngineError(
                f"The half volume {half} of a restore that was cut off stays: {why}",
                remedy="Look which container uses it, remove that, and run this again.",
            )
        site.engine.remove_volume(mark)
    record = _running(site, state)
    if record and files.home_of(record.composed) != state.home_volume:
        _keep(site, record, _with_home(record, state.home_volume))
    return stacks.observe(site.engine, site.stack) if numbers else state


def _remove_half_made(site: Site, state: State) -> None:
    """Remove containers that compose made beside the stack's own, and was cut off at."""
    mine = {label.STACK: site.stack, label.KIND: "server"}
    for each in site.engine.containers(mine):
        if each.started is None and state.container and each.id != state.container.id:
            site.engine.remove_container(each.id)


@contextmanager
def fresh_volume(site: Site, state: State) -> Iterator[str]:
    """A new home volume, which is the stack's from the end of this on; a failure takes it away."""
    number = 1 + max(state.home_number(name) or 0 for name in (*state.volumes, ""))
    volume, mark = home_name(site.stack, number), restoring_name(site.stack, number)
    labels = deploying.volume_labels(site, deploying.account_of(site, state))
    try:
        site.engine.create_volume(mark, labels)
        site.engine.create_volume(volume, labels)
        yield volume
    except BaseException:
        with uninterrupted():
            site.engine.remove_volume(volume)
            site.engine.remove_volume(mark)
        raise
    site.engine.remove_volume(mark)


def kept_before(state: State) -> tuple[str, ...]:
    """Home volumes that are not in use: what earlier restores kept."""
    return tuple(
        name
        for name in sorted(state.volumes)
        if state.home_number(name) is not None and name != state.home_volume
    )


def swap(site: Site, state: State, *, home: str) -> Composed:
    """Run the release that the container is of with another home volume, and all else as it is.

    Args:
        site: the box.
        state: what is there; it has a container.
        home: the volume's name.

    Raises:
        BackupError: an older jupbox deployed it, and kept no file of it.
        EngineError: the engine refuses.
    """
    record = _running(site, state)
    if record is None:
        raise BackupError(
            f"What runs on {site.machine.name} was deployed by an older jupbox, which kept no "
            "file of it.",
            remedy=f"Nothing was changed. Run `jupbox up{site.command} --upgrade`, then this "
            "again.",
        )
    composed = _with_home(record, home)
    try:
        site.engine.compose_up(files.text(composed), project=site.stack)
    except PortTakenError:
        raise deploying.port_error(site, files.port_of(composed)) from None
    if stacks.observe(site.engine, site.stack).home_volume != home:
        raise EngineError(
            f"The server on {site.machine.name} was not started with {home}.",
            remedy=f"Run `jupbox up{site.command}`, then this again.",
        )
    _keep(site, record, composed)
    return composed


def _running(site: Site, state: State) -> Record | None:
    """The record of the release that the container is of."""
    runs = records.runs_of(state)
    kept = records.records(site.engine, site.stack)
    return next((each for each in kept if each.number == runs), None)


def _with_home(record: Record, home: str) -> dict[str, Any]:
    image = str(record.composed["services"][NOTEBOOK]["image"])
    return files.resealed(record.composed, image=image, volumes={"home": home}, labels={})


def _keep(site: Site, record: Record, composed: Composed) -> None:
    """Have the release's record name the home volume in use: a roll-out may fall back to it."""
    image = site.engine.image(record.image)
    if image is not None:
        records.drop(site.engine, record)
        release = Release(generation=record.number, image=image)
        records.keep(site.engine, release, composed, stack=site.stack)
