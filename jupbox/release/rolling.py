"""From one release to the next and back: the swap, what makes it good, and the way back."""

from __future__ import annotations

from typing import Any

from jupbox import composed as files
from jupbox import labels as label
from jupbox.composed import Composed
from jupbox.errors import (
    CertificateError,
    EngineError,
    JupboxError,
    PortTakenError,
    RolloutError,
    ServerError,
)
from jupbox.host import records
from jupbox.host import stack as stacks
from jupbox.host.records import Record
from jupbox.host.stack import Release, State
from jupbox.override import NOTEBOOK
from jupbox.release import deploying
from jupbox.render import Account
from jupbox.site import Site

SERVES_NOT = (CertificateError, EngineError, PortTakenError, ServerError)
"""What a swapped-in release may end with; anything else is no fault of the release."""


def swap(site: Site, release: Release, composed: Composed, *, account: Account) -> None:
    """Have the stack run a release, whose file and image are kept from now on.

    Raises:
        PortTakenError: a port is somebody else's.
        EngineError: anything else that compose refuses.
    """
    records.keep(site.engine, release, composed, stack=site.stack)
    deploying.ensure_home(site, files.home_of(composed), account)
    try:
        site.engine.compose_up(files.text(composed), project=site.stack)
    except PortTakenError:
        raise deploying.port_error(site, files.port_of(composed)) from None


def approve(site: Site, state: State) -> None:
    """Note that the release that runs has served; older ones than are kept go.

    The note comes last: without it the next command does all of this again.
    """
    records.prune(site.engine, state, keep=site.box.keep_releases)
    runs = records.runs_of(state)
    release = next((each for each in state.releases if each.generation == runs), None)
    if release is not None and not release.proven:
        site.engine.tag(release.image.id, f"{site.stack}:{stacks.PROVEN}-{release.generation}")


def good_record(site: Site, state: State, *, but: int) -> Record | None:
    """The newest release that has served and can be brought back.

    Args:
        but: the number of one that is not meant.
    """
    proven = {each.generation for each in state.releases if each.proven}
    found = records.records(site.engine, site.stack)
    return next((each for each in found if each.number in proven - {but}), None)


def fall_back(
    site: Site, record: Record, cause: JupboxError, *, home: str, running: bool
) -> RolloutError:
    """Have the release before serve again; the error that says so, or that it does not either.

    Args:
        site: the box.
        record: of the release before.
        cause: why the new one does not do.
        home: the home volume in use.
        running: whether it ran before; else it is stopped again.
    """
    image = record.composed["services"][NOTEBOOK]["image"]
    composed = files.resealed(record.composed, image=image, volumes={"home": home}, labels={})
    try:
        site.engine.compose_up(files.text(composed), project=site.stack)
        state = stacks.observe(site.engine, site.stack)
        public = stacks.public_certificates(site.engine, state)
        if public is not None:
            deploying.wait(site, files.port_of(record.composed), public)
        if not running and state.container:
            site.engine.stop(state.container.id, for_good=True)
        records.sweep(site.engine, stacks.observe(site.engine, site.stack))
    except SERVES_NOT as error:
        return RolloutError(
            f"The new release does not serve ({cause.message}), and release {record.number} "
            f"does not come back: {error.message}",
            remedy=f"`jupbox rollback{site.command} --list` names the others; {error.remedy}",
            details=cause.details,
        )
    again = "serves again" if running else "is back, and stopped as it was"
    return RolloutError(
        f"The new release does not serve: {cause.message} Release {record.number} {again}.",
        remedy=cause.remedy,
        details=cause.details,
    )


def returned(
    site: Site, state: State, record: Record, sealed: Release, *, who: str, since: str
) -> dict[str, Any]:
    """An earlier release's file, with the seal in force and the home volume in use."""
    volumes = {
        "seal": records.seal_volume(site.stack, sealed.generation),
        "home": state.home_volume,
    }
    labels = {
        label.GENERATION: str(sealed.generation),
        label.ORIGIN: str(record.origin),
        label.WHO: who,
        label.SINCE: since,
    }
    return files.resealed(record.composed, image=sealed.reference, volumes=volumes, labels=labels)
