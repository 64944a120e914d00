"""One change of a box at a time, and a record of each."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from jupbox import audit
from jupbox.audit import Change, Ended
from jupbox.console import Console
from jupbox.errors import BusyError, JupboxError
from jupbox.host.exclusion import PATIENCE_SECONDS, Hold
from jupbox.release.sealing import who
from jupbox.secret import without_credentials
from jupbox.site import Site

_LOOK_SECONDS: Final = 2.0
_INTERRUPTED: Final = 130


@dataclass(kw_only=True)
class Turn:
    """A change that is being made.

    Attributes:
        revision: of the project's git repository, None where there is none.
        outcome: what the audit calls the end, if it is a good one.
    """

    revision: str | None
    outcome: str = audit.DONE

    def found_nothing(self) -> None:
        """Say that there was nothing to do."""
        self.outcome = audit.NOTHING


@contextmanager
def turn(
    site: Site, verb: str, *, console: Console, wait: bool = False, revision: str | None = None,
    arguments: Sequence[str] = (), record: bool = True,
) -> Iterator[Turn]:  # fmt: skip
    """Be the only one who changes the box's stack, and have the box keep who did what.

    Each stage that begins meanwhile makes sure that the lock is still there.

    Args:
        site: the box.
        verb: of the command.
        console: says who is waited for.
        wait: for who is at it, however long; else they are an error.
        revision: of the project; None has git asked.
        arguments: the command's options and words that matter; no secret.
        record: whether the audit is to tell of it.

    Raises:
        BusyError: another command changes it.
        HostError: the lock went with its connection; said by the next stage.
    """
    if record and revision is None:
        revision = site.revision
    change = Change(
        id=secrets.token_hex(6), who=who(), pid=os.getpid(), verb=verb,
        arguments=tuple(without_credentials(word) for word in arguments), revision=revision,
    )  # fmt: skip
    mine = Turn(revision=revision)
    with ExitStack() as stack:
        hold = _enter(stack, site, change, console, wait=wait, record=record)
        if hold.left:
            here = datetime.now().astimezone()
            console.note(audit.taken_over(hold.left, now=here))
        stack.callback(_change_hands, site, console, console.before_stage, site.engine.heir)
        _change_hands(site, console, hold.check, hold.descriptor)
        try:
            yield mine
        except BaseException as error:
            hold.ended = _failed(change, error)
            raise
        hold.ended = Ended(id=change.id, outcome=mine.outcome)


def _change_hands(
    site: Site, console: Console, check: Callable[[], None], descriptor: int | None
) -> None:
    """Have each stage look after the lock, and each docker process keep it to its end."""
    console.before_stage = check
    site.engine.heir = descriptor


def _enter(
    stack: ExitStack, site: Site, change: Change, console: Console, *, wait: bool, record: bool
) -> Hold:
    """Take the lock, or wait for it where that is wanted or ends by itself."""

    def take() -> Hold:
        return stack.enter_context(site.machine.exclusive(site.stack, change, record=record))

    try:
        return take()
    except BusyError as error:
        if not wait and not _is_gone(error.holder):
            raise
        limit = None if wait else float(PATIENCE_SECONDS)
        return _wait(take, error, console, limit=limit)


def _wait(
    take: Callable[[], Hold], error: BusyError, console: Console, *, limit: float | None
) -> Hold:
    """Take the lock as soon as it is free; the last refusal is the error after `limit` seconds."""
    deadline = None if limit is None else time.monotonic() + limit
    said = None
    with console.stage("Waiting for another change to end") as stage:
        while True:
            if said != (said := error.holder.id if error.holder else ""):
                stage.detail(error.message)
            time.sleep(_LOOK_SECONDS)
            try:
                return take()
            except BusyError as again:
                if deadline is not None and time.monotonic() > deadline:
                    raise
                error = again


def _is_gone(holder: Change | None) -> bool:
    """Whether the holder was a process of this machine that is no more.

    What it had started may still be at its work; it keeps the lock until that is done.
    """
    if holder is None or holder.host != platform.node():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # somebody else's
    return False


def _failed(change: Change, error: BaseException) -> Ended:
    if isinstance(error, KeyboardInterrupt):
        return Ended(id=change.id, outcome=audit.INTERRUPTED, code=_INTERRUPTED)
    if isinstance(error, JupboxError):
        message = without_credentials(audit.first_sentence(error.message))
        return Ended(
            id=change.id, outcome=audit.FAILED, code=error.exit_code, message=message[:300]
        )
    # its own words may hold a secret
    return Ended(id=change.id, outcome=audit.FAILED, code=1, message=type(error).__name__)
