"""From the old release to the new one, as `up` and `rollback` show it."""

from __future__ import annotations

from collections.abc import Callable

from jupbox import plan
from jupbox.composed import Composed, port_of
from jupbox.console import Console
from jupbox.errors import JupboxError
from jupbox.host import records
from jupbox.host import stack as stacks
from jupbox.host.signals import uninterrupted
from jupbox.host.stack import Release, State
from jupbox.project import Box
from jupbox.release import deploying, proving, rolling
from jupbox.render import Account
from jupbox.workflows.found import Found, place


def roll_out(
    found: Found, release: Release, text: str, *, account: Account, console: Console,
    ask: Callable[[], None],
) -> None:  # fmt: skip
    """Prove a release beside the old one where there is one, swap it in, and see it answer.

    Args:
        found: the box, with what runs.
        release: the sealed image.
        text: the final compose file.
        account: the notebook's user.
        console: says where it stands.
        ask: called right before what runs is ended.

    Raises:
        RolloutError: the new release does not work; the old one serves.
    """
    site, old = found.site, found.state.container
    composed = site.engine.composed(text)
    try:
        if old is not None:
            with console.stage("Proving the new release beside the old one"):
                proving.prove(site, composed, account)
        ask()
    except BaseException:
        # nothing is left of it, whatever ended it; a next run makes it anew
        with uninterrupted():
            records.sweep(site.engine, stacks.observe(site.engine, site.stack))
        raise
    swap(found, release, composed, account=account, console=console)


def swap(
    found: Found, release: Release, composed: Composed, *, account: Account, console: Console
) -> None:
    """Have the stack run a release and see it answer, or have the one before back.

    Raises:
        RolloutError: it does not answer.
    """
    site = found.site
    try:
        # seconds, and half of it is worse than a Ctrl-C that waits for its end
        with uninterrupted(), console.stage(f"Starting the server on {place(site.box)}"):
            rolling.swap(site, release, composed, account=account)
            console.standing = started(site.box)
        public = stacks.certificates_of(release.image)
        assert public is not None, "it has just been sealed"
        with console.stage("Waiting for its answer over HTTPS"):
            deploying.wait(site, port_of(composed), public)
    except rolling.SERVES_NOT as error:
        raise _back(found, error, console, failed=release.generation) from None


def started(box: Box) -> str:
    """What a Ctrl-C that was held back until the server was started leaves standing."""
    return f"The server on {place(box)} was started; the same command looks whether it answers."


def wait(
    found: Found, state: State, public: plan.Certificates, *, port: int, console: Console
) -> None:
    """See what runs answer; a release that never has goes back to the one before.

    Raises:
        ServerError: it does not, and there is none before.
        RolloutError: it does not, and the one before serves.
    """
    try:
        deploying.wait(found.site, port, public)
    except rolling.SERVES_NOT as error:
        runs = records.runs_of(state)
        release = next((each for each in state.releases if each.generation == runs), None)
        if release is None or release.proven:
            raise
        raise _back(found, error, console, failed=release.generation) from None


def _back(found: Found, error: JupboxError, console: Console, *, failed: int) -> JupboxError:
    """The release before in place of one that does not serve; the error to end with."""
    site = found.site
    state = stacks.observe(site.engine, site.stack)
    record = rolling.good_record(site, state, but=failed)
    if record is None:
        return error
    was = found.state.container
    with uninterrupted(), console.stage(f"Going back to release {record.number}"):
        return rolling.fall_back(
            site, record, error, home=found.state.home_volume,
            running=was is None or was.running,
        )  # fmt: skip
