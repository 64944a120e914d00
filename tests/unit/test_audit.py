"""The lines about changes: what they say, and how they are read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from jupbox import audit
from jupbox.audit import Change, Ended

NOW = datetime(2026, 3, 1, 14, 5, tzinfo=timezone(timedelta(hours=2)))
UP = Change(
    id="1", who="ada@laptop", pid=7, verb="up", arguments=("--upgrade",), revision="1a2b3c4"
)


def at(minutes: float, line: str) -> str:
    """A line as the box keeps it, that long ago."""
    seconds = int(NOW.timestamp() - 60 * minutes)
    return json.dumps({"at": seconds, **json.loads(line)})


def test_a_change_is_read_as_it_was_written() -> None:
    read = audit.read_change(at(3, UP.line()))
    assert read is not None
    assert (read.line(), read.began) == (UP.line(), NOW - timedelta(minutes=3))


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "null", '{"id": "1"}', '{"id": "1", "outcome": "done"}', '"up"']
)
def test_what_is_no_change_is_none(line: str) -> None:
    assert audit.read_change(line) is None


def test_the_holder_is_named_with_command_and_age() -> None:
    holder = audit.read_change(at(3, UP.line()))
    assert holder is not None
    assert audit.holding(holder, now=NOW) == (
        "ada@laptop has been running `jupbox up --upgrade` since 14:02 (3 min)."
    )
    assert audit.taken_over(holder, now=NOW) == (
        "The lock of ada@laptop (`up --upgrade`, since 14:02) was left behind; taken over."
    )


def test_another_day_is_named() -> None:
    assert audit.moment(NOW - timedelta(days=1), now=NOW) == "2026-02-28 14:05"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0 s"), (40.4, "40 s"), (60, "1 min"), (3600, "1 h"), (7500, "2 h 5 min")],
)
def test_a_length_of_time_is_short_to_read(seconds: float, expected: str) -> None:
    assert audit.span(seconds) == expected


def test_ends_belong_to_their_beginnings_whatever_stands_between() -> None:
    down = Change(id="2", who="bob@desk", pid=8, verb="down")
    cut = Change(id="3", who="bob@desk", pid=9, verb="rm")
    runs = Change(id="4", who="eve@home", pid=10, verb="add", arguments=("polars",))
    text = "\n".join(
        [
            at(90, UP.line()),
            '{"at": 5, "id": "half',
            at(80, down.line()),
            at(79, Ended(id="2", outcome=audit.NOTHING).line()),
            at(78, Ended(id="1", outcome=audit.FAILED, code=24, message="No.").line()),
            at(70, cut.line()),
            at(1, runs.line()),
        ]
    )
    entries = audit.read_entries(text, holder=audit.read_change(at(1, runs.line())))
    assert list(audit.columns(entries, now=NOW)) == [
        ("2026-03-01 12:35", "ada@laptop", "1a2b3c4", "up --upgrade",
         "failed with exit code 24 (12 min): No."),
        ("2026-03-01 12:45", "bob@desk", "-", "down", "nothing to do (1 min)"),
        ("2026-03-01 12:55", "bob@desk", "-", "rm", "cut off"),
        ("2026-03-01 14:04", "eve@home", "-", "add polars", "running"),
    ]  # fmt: skip
    assert [e.change.id for e in audit.chosen(entries, since=None, tail=2)] == ["3", "4"]
    since = NOW - timedelta(minutes=75)
    assert [e.change.id for e in audit.chosen(entries, since=since, tail=None)] == ["3", "4"]
    assert audit.chosen(entries, since=since, tail=0) == ()
    first = entries[0].json()
    assert (first["began"], first["exit_code"]) == ("2026-03-01T10:35:00+00:00", 24)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", NOW - timedelta(minutes=10)),
        ("1d2h", NOW - timedelta(hours=26)),
        ("1.5h", NOW - timedelta(minutes=90)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=NOW.tzinfo)),
        ("2026-03-01T10:00:00Z", datetime(2026, 3, 1, 10, tzinfo=UTC)),
    ],
)
def test_since_is_a_span_or_a_time(text: str, expected: datetime) -> None:
    assert audit.since_when(text, now=NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "10", "10x", ""])
def test_another_word_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        audit.since_when(text, now=NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One thing. Another.", "One thing."),
        ("debian 12.5 is\nold. Upgrade.", "debian 12.5 is old."),
        ("`a.b` failed: no", "`a.b` failed: no"),
    ],
)
def test_the_first_sentence_is_cut_out(text: str, expected: str) -> None:
    assert audit.first_sentence(text) == expected
