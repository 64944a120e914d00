"""A new release beside the old one: started, logged into over TLS, used, and taken away again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from jupbox import composed as files
from jupbox import labels as label
from jupbox.composed import Composed
from jupbox.errors import EngineError, RolloutError
from jupbox.host.inspected import Container
from jupbox.release import deploying, inside
from jupbox.release.sealing import stack_labels
from jupbox.render import Account
from jupbox.site import Site

_COME_UP_SECONDS: Final = 120
_POLL_SECONDS: Final = 0.5
# of a reason, in characters; the log says the rest
_LONGEST: Final = 160
# the server's start, a kernel's, and what the commands themselves take on a slow machine
# the exit code of jupbox_server.prove
_DISK_FULL: Final = 4
_PROOF_SECONDS: Final = 3 * _COME_UP_SECONDS


def prove(site: Site, composed: Composed, account: Account) -> None:
    """Run a stack's notebook as a candidate: a control login over TLS, a kernel, a cell.

    It has no port, and nothing of the user's files; whatever comes of it, it is gone afterwards.

    Raises:
        RolloutError: it does not come up, or a part of it does not work; with its last log lines.
        DiskFullError: nothing can come up there.
    """
    name = f"{site.stack}-candidate"
    labels = stack_labels(site, "candidate")
    text = files.text(files.candidate(composed, name=name, labels=labels))
    try:
        site.engine.compose_up(text, project=name)
        container = _candidate(site)
        if container is None:
            raise _failed("it could not be started")
        _try(site, container, account)
    except EngineError as error:
        raise _failed(error.message) from None
    finally:
        remove_candidates(site)


def _failed(reason: str, log: Sequence[str] = ()) -> RolloutError:
    return RolloutError(
        f"The new release does not work: {reason}",
        remedy="Nothing was changed. Mend the image or the box's keys, then run it again.",
        details=log,
    )


def _candidate(site: Site) -> Container | None:
    found = site.engine.containers({label.STACK: site.stack, label.KIND: "candidate"})
    return found[0] if found else None


def _try(site: Site, container: Container, account: Account) -> None:
    command = inside.room("prove", "--limit", str(_COME_UP_SECONDS))
    user = f"{account.uid}:{account.gid}"
    done = site.engine.execute(container.id, command, user=user, timeout=_PROOF_SECONDS)
    if done.returncode == 0 or (_is_old(site, container) and _answers(site, container, user)):
        return
    if done.returncode == _DISK_FULL:
        raise site.engine.disk_full()
    now = _candidate(site)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    reason = said[-1] if said and now and now.running else "its server ends right after its start"
    raise _failed(f"{reason[:_LONGEST]}.", deploying.log_lines(site, container))


def _is_old(site: Site, container: Container) -> bool:
    """Whether the server's files are of a jupbox that could not prove yet."""
    file = "/opt/jupbox/server/jupbox_server/prove.py"
    return site.engine.execute(container.id, ["test", "-f", file]).returncode == 1


def _answers(site: Site, container: Container, user: str) -> bool:
    """Whether a server that cannot prove itself answers over HTTPS, in time."""
    deadline = time.monotonic() + _COME_UP_SECONDS
    while time.monotonic() < deadline:
        if site.engine.execute(container.id, inside.room("health"), user=user).returncode == 0:
            return True
        now = _candidate(site)
        if now is None or not now.running:
            return False
        time.sleep(_POLL_SECONDS)
    return False


def remove_candidates(site: Site) -> None:
    """Take candidates away, with the volumes that were theirs alone."""
    for each in site.engine.containers({label.STACK: site.stack, label.KIND: "candidate"}):
        with suppress(EngineError):  # what stays is swept before the next change
            site.engine.remove_container(each.id, anonymous_volumes=True)
