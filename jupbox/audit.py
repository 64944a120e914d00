"""Who changes a box now, and who changed it before: the lines that are kept on it.

A line of JSON when a change begins (the same stands in the lock while it lasts) and one when it
ends. Times are seconds since 1970 by the box's own clock, which alone all laptops share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

KEPT: Final = 1000
"""How many lines of the audit are kept on a box: two a change."""

DONE: Final = "done"
NOTHING: Final = "nothing to do"
FAILED: Final = "failed"
INTERRUPTED: Final = "interrupted"
RUNNING: Final = "running"
CUT_OFF: Final = "cut off"

_SPAN: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a box, as whoever makes it says.

    Attributes:
        id: tells it from all others.
        who: user and host name of where the command runs: `ada@laptop`.
        pid: the command's process there.
        verb: of the command.
        arguments: the options and words that matter; no secret.
        revision: of the project's git repository, None where there is none.
        began: by the box's clock; None until it is the box's turn.
    """

    id: str
    who: str
    pid: int
    verb: str
    arguments: tuple[str, ...] = ()
    revision: str | None = None
    began: datetime | None = None

    @property
    def command(self) -> str:
        """The verb with its arguments."""
        return " ".join((self.verb, *self.arguments))

    @property
    def host(self) -> str:
        """Where the command runs."""
        return self.who.rpartition("@")[2]

    def line(self) -> str:
        """As it is kept, but for the time, which the box adds."""
        return json.dumps(
            {
                "id": self.id,
                "who": self.who,
                "pid": self.pid,
                "verb": self.verb,
                "arguments": list(self.arguments),
                "revision": self.revision,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a change ended.

    Attributes:
        id: of the change.
        outcome: one of this module's words for it.
        code: the command's exit code.
        message: of a failure, its first sentence.
    """

    id: str
    outcome: str
    code: int = 0
    message: str = ""

    def line(self) -> str:
        """As it is kept, but for the time, which the box adds."""
        return json.dumps(
            {"id": self.id, "outcome": self.outcome, "code": self.code, "message": self.message}
        )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A change with its end, if it came to one.

    Attributes:
        outcome: one of this module's words for it.
        ended: None for what runs, or was cut off.
        code: the command's exit code, None without an end.
    """

    change: Change
    outcome: str
    ended: datetime | None = None
    code: int | None = None
    message: str = ""

    def json(self) -> dict[str, object]:
        """The entry for programs; times in ISO 8601."""
        change = self.change
        return {
            "id": change.id,
            "who": change.who,
            "verb": change.verb,
            "arguments": list(change.arguments),
            "revision": change.revision,
            "began": _iso(change.began),
            "ended": _iso(self.ended),
            "outcome": self.outcome,
            "exit_code": self.code,
            "message": self.message,
        }


def read_change(line: str) -> Change | None:
    """The change of a line; None for one that is none, cut short or from a newer jupbox."""
    return _change(_values(line))


def read_entries(text: str, *, holder: Change | None = None) -> tuple[Entry, ...]:
    """The audit's entries, the newest last; lines that cannot be read are left out.

    Args:
        text: of the file.
        holder: what has the lock now.
    """
    lines = [values for line in text.splitlines() if (values := _values(line))]
    ends = {values.get("id"): values for values in lines if "outcome" in values}
    return tuple(
        _entry(change, ends.get(change.id, {}), holder)
        for values in lines
        if (change := _change(values))
    )


def chosen(
    entries: Sequence[Entry], *, since: datetime | None, tail: int | None
) -> tuple[Entry, ...]:
    """The entries that began since then, of them the last ones."""
    young = [e for e in entries if not since or (e.change.began and e.change.began >= since)]
    return tuple(young if tail is None else young[max(0, len(young) - tail) :])


def since_when(text: str, *, now: datetime) -> datetime:
    """The time that `10m`, `2h`, `1d12h`, or a time in ISO 8601 means.

    Args:
        text: as it was typed.
        now: with the zone that a time without one is in.

    Raises:
        ValueError: it is none of them.
    """
    if _SPAN.fullmatch(text):
        seconds = sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(text))
        return now - timedelta(seconds=seconds)
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=now.tzinfo)


def first_sentence(text: str) -> str:
    """A message up to its first full stop, in one line."""
    line = " ".join(text.split())
    return re.split(r"(?<=[.!?]) (?=[A-Z`])", line, maxsplit=1)[0]


def moment(when: datetime | None, *, now: datetime) -> str:
    """A time for a person: of today without its date.

    Args:
        when: any time.
        now: with the person's zone.
    """
    if when is None:
        return "?"
    local = when.astimezone(now.tzinfo)
    return f"{local:%H:%M}" if local.date() == now.date() else f"{local:%Y-%m-%d %H:%M}"


def span(seconds: float) -> str:
    """A length of time for a person: `40 s`, `3 min`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return " ".join([*([f"{hours} h"] if hours else []), *([f"{minutes} min"] if minutes else [])])


def holding(holder: Change, *, now: datetime) -> str:
    """The sentence about who has the lock."""
    age = f" ({span((now - holder.began).total_seconds())})" if holder.began else ""
    return (
        f"{holder.who} has been running `jupbox {holder.command}` since "
        f"{moment(holder.began, now=now)}{age}."
    )


def taken_over(left: Change, *, now: datetime) -> str:
    """The sentence about a lock whose holder is gone without a word."""
    since = moment(left.began, now=now)
    return f"The lock of {left.who} (`{left.command}`, since {since}) was left behind; taken over."


def _values(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _change(values: Mapping[str, Any]) -> Change | None:
    if "outcome" in values:
        return None
    try:
        return Change(
            id=str(values["id"]),
            who=str(values["who"]),
            pid=int(values["pid"]),
            verb=str(values["verb"]),
            arguments=tuple(map(str, values["arguments"])),
            revision=values["revision"],
            began=_time(values["at"]) if "at" in values else None,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _entry(change: Change, end: Mapping[str, Any], holder: Change | None) -> Entry:
    if not end:
        runs = holder is not None and holder.id == change.id
        return Entry(change=change, outcome=RUNNING if runs else CUT_OFF)
    return Entry(
        change=change,
        outcome=str(end["outcome"]),
        ended=_time(end.get("at", 0)),
        code=end.get("code"),
        message=str(end.get("message", "")),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _iso(when: datetime | None) -> str | None:
    return when.isoformat(timespec="seconds") if when else None


def columns(entries: Sequence[Entry], *, now: datetime) -> Iterator[tuple[str, ...]]:
    """The entries as rows of a table: when, who, revision, command, outcome."""
    for entry in entries:
        change = entry.change
        began = change.began.astimezone(now.tzinfo) if change.began else None
        yield (
            f"{began:%Y-%m-%d %H:%M}" if began else "?",
            change.who,
            change.revision or "-",
            change.command,
            _outcome(entry),
        )


def _outcome(entry: Entry) -> str:
    began, ended = entry.change.began, entry.ended
    took = f" ({span((ended - began).total_seconds())})" if began and ended else ""
    code = f" with exit code {entry.code}" if entry.outcome == FAILED and entry.code else ""
    message = f": {entry.message}" if entry.message else ""
    return f"{entry.outcome}{code}{took}{message}"
