"""Before kernels and terminals are ended: what works in them, and whether to go on all the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from jupbox.console import Console
from jupbox.errors import EngineError, KernelsBusyError, ServerError
from jupbox.host import stack as stacks
from jupbox.host.machine import Machine
from jupbox.workflows.found import Found, control, place, user_of

_LOOK_SECONDS: Final = 5.0
_MOST_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True)
class Consent:
    """What a command line says of kernels that would be ended.

    Attributes:
        force: end them, busy or not.
        when_idle: wait until none is busy.
    """

    force: bool = False
    when_idle: bool = False


@dataclass(frozen=True, kw_only=True)
class Working:
    """A kernel or a terminal.

    Attributes:
        what: the notebook, or what a terminal runs.
        since: when it went to work, or came to rest; None where nobody knows.
        last: when something of it was last seen.
    """

    kind: str
    what: str
    busy: bool
    since: datetime | None
    last: datetime | None


def ensure_idle(
    found: Found, *, verb: str, consent: Consent, console: Console, wait: bool = True
) -> None:
    """Let a verb end what runs only if nothing of it works; idle kernels are named.

    Args:
        found: the box; its container as it was seen.
        verb: what would end them, for a sentence.
        consent: of the command line.
        console: where the table goes.
        wait: whether `when_idle` waits already; else it is asked once more, later.

    Raises:
        KernelsBusyError: something works.
    """
    container = found.state.container
    if container is None or not container.running:
        return
    site = found.site
    _ensure(
        _Question(
            look=lambda: _at_work(found),
            where=place(site.box),
            command=f"jupbox {verb}{site.command}",
            verb=verb,
            now=site.around.now,
        ),
        consent=consent, console=console, wait=wait,
    )  # fmt: skip


def ensure_engine_idle(
    machine: Machine, *, where: str, consent: Consent, console: Console,
    now: Callable[[], datetime],
) -> None:  # fmt: skip
    """Let an engine be restarted only if nothing works in any notebook server on it.

    Args:
        machine: the engine's.
        where: how a sentence calls it.
        consent: of the command line.
        console: where the table goes.
        now: the clock.

    Raises:
        KernelsBusyError: something works.
    """
    question = _Question(
        look=lambda: _on_engine(machine), where=where, command="jupbox setup",
        verb="setup", now=now,
    )  # fmt: skip
    _ensure(question, consent=consent, console=console, wait=True)


@dataclass(frozen=True, kw_only=True)
class _Question:
    """Whom to ask what works, and how sentences call it.

    Attributes:
        look: asks; None where nobody answers.
        command: what is typed once more.
    """

    look: Callable[[], list[Working] | None]
    where: str
    command: str
    verb: str
    now: Callable[[], datetime]


def _ensure(question: _Question, *, consent: Consent, console: Console, wait: bool) -> None:
    works = None if consent.force else question.look()
    if works is None:
        return
    busy = [each for each in works if each.busy]
    if busy and not consent.when_idle:
        raise _busy(question, busy, console)
    if busy and not wait:
        return
    if busy:
        works = _wait(question, busy, console)
    _name_idle(works, console)


def _wait(question: _Question, busy: list[Working], console: Console) -> list[Working]:
    """Look again until nothing works; a Ctrl-C ends it with nothing changed."""
    told = _counted(busy)
    with console.stage(f"Waiting for {told}") as stage:
        while True:
            time.sleep(_LOOK_SECONDS)
            works = question.look()
            left = [each for each in works or () if each.busy]
            if not left:
                return works or []
            if (now := _counted(left)) != told:
                stage.detail(told := now)


def _counted(busy: list[Working]) -> str:
    names = ", ".join(each.what for each in busy[:_MOST_NAMED])
    more = f" and {len(busy) - _MOST_NAMED} more" if len(busy) > _MOST_NAMED else ""
    return f"{names}{more}"


def _busy(question: _Question, busy: list[Working], console: Console) -> KernelsBusyError:
    now = question.now()
    rows = [(each.kind, each.what, _ago(each.since, now), _ago(each.last, now)) for each in busy]
    console.table(("busy", "what", "since", "last activity"), rows, result=False)
    one = len(busy) == 1
    return KernelsBusyError(
        f"{'One kernel or terminal' if one else f'{len(busy)} kernels or terminals'} on "
        f"{question.where} {'is' if one else 'are'} at work, and `{question.verb}` would end "
        f"{'it' if one else 'them'}.",
        remedy=f"Nothing was changed. `{question.command} --when-idle` waits for the end of the "
        "work; --force goes on.",
    )


def _name_idle(works: list[Working], console: Console) -> None:
    idle = [each.what for each in works if not each.busy]
    if idle:
        named = ", ".join(idle[:_MOST_NAMED])
        more = f" and {len(idle) - _MOST_NAMED} more" if len(idle) > _MOST_NAMED else ""
        console.note(f"Idle, and ended by this: {named}{more}.")


def _at_work(found: Found) -> list[Working] | None:
    """What the server says of its kernels and terminals; None where it does not answer.

    A server that does not answer has been given up by its health check, or never came up: there
    is nobody to ask, and what mends it is just this verb.
    """
    container = stacks.server_of(found.site.engine, found.site.stack)
    if container is None or not container.running:
        return None
    try:
        told = control(found.site.engine, container, "activity", user=user_of(found))
    except (ServerError, EngineError):
        return _of_old_server(found)
    return _read(told)


def _read(told: dict[str, Any]) -> list[Working]:
    kernels = [
        Working(
            kind="kernel",
            what=each.get("notebook") or f"a {each['name']} kernel without a notebook",
            busy=each["state"] == "busy",
            since=_moment(each.get("since")),
            last=_moment(each.get("last_activity")),
        )
        for each in told["kernels"]
    ]
    return kernels + [
        Working(
            kind="terminal",
            what=each.get("command") or f"terminal {each['name']}",
            busy=bool(each["busy"]),
            since=_moment(each.get("since")),
            last=_moment(each.get("last_activity")),
        )
        for each in told["terminals"]
    ]


def _of_old_server(found: Found) -> list[Working] | None:
    """What a server of an older jupbox says: numbers alone."""
    container = found.state.container
    if container is None:
        return None
    try:
        told = control(found.site.engine, container, "summary", user=user_of(found))
    except (ServerError, EngineError):
        return None
    return [
        Working(kind=kind, what=f"a {kind}", busy=number < told[busy], since=None, last=None)
        for kind, all_of, busy in (
            ("kernel", "kernels", "busy"),
            ("terminal", "terminals", "terminals_busy"),
        )
        for number in range(told[all_of])
    ]


# One line of JSON for each notebook server that answers.
_ASK_ALL: Final = """
for each in $(docker ps --quiet --filter label=dev.jupbox.kind=server); do
  docker exec "$each" /opt/env/bin/python -P -m jupbox_server.control activity 2>/dev/null
done
true
"""


def _on_engine(machine: Machine) -> list[Working]:
    """What works in all notebook servers on an engine, whoever's they are."""
    told = machine.run(["sh", "-s"], input=_ASK_ALL.encode(), timeout=60, check=False)
    lines = [line for line in told.text.splitlines() if line.startswith("{")]
    return [each for line in lines for each in _read(json.loads(line))]


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "unknown"
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit} ago"
    return f"{seconds} s ago"
