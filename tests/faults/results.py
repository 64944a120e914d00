"""What the faults did, as the table that the README shows.

A test notes its outcome with the `outcome` fixture. It goes with the test's report, so that the
table is whole whichever worker ran what.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

_PROPERTY = "fault"


@dataclass(kw_only=True)
class Outcome:
    """How one injected fault ended.

    Attributes:
        fault: what was done.
        how: where and by what.
        result: what was seen afterwards, in words that other cases of the fault have, too.
        seconds: what was measured, by name.
    """

    fault: str = ""
    how: str = ""
    result: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Iterator[Outcome]:
    """To be filled in by the test."""
    noted = Outcome()
    yield noted
    if noted.fault:
        request.node.user_properties.append((_PROPERTY, json.dumps(asdict(noted))))


@dataclass(kw_only=True)
class Row:
    """All cases of one fault, injected in one way."""

    fault: str
    how: str
    results: Counter[str] = field(default_factory=Counter)
    longest: dict[str, float] = field(default_factory=dict)

    def add(self, noted: dict[str, Any], *, passed: bool) -> None:
        """Count one more case."""
        self.results[noted["result"] if passed else "FAILED"] += 1
        for name, value in noted["seconds"].items():
            self.longest[name] = max(value, self.longest.get(name, 0.0))

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        count = self.results.total()
        results = "; ".join(
            text if number == count else f"{number} times {text}"
            for text, number in self.results.most_common()
        )
        measured = ", ".join(f"{name} {value:.1f} s" for name, value in self.longest.items())
        return (self.fault, self.how, str(count), ". ".join(filter(None, (results, measured))))


def table(reports: Sequence[pytest.TestReport]) -> str:
    """The results as Markdown; empty without any."""
    rows: dict[tuple[str, str], Row] = {}
    bad = {report.nodeid for report in reports if report.failed}
    for report in reports:
        for name, value in report.user_properties:
            # the fixture notes it at the test's end
            if name == _PROPERTY and report.when == "teardown":
                noted = json.loads(str(value))
                key = (noted["fault"], noted["how"])
                row = rows.setdefault(key, Row(fault=key[0], how=key[1]))
                row.add(noted, passed=report.nodeid not in bad)
    if not rows:
        return ""
    head = ("Fault", "Injected", "Times", "Result")
    lines = [head, tuple("---" for _ in head), *(row.cells() for row in rows.values())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the table, and write it where it was asked for."""
    reports = [
        report
        for outcomes in terminalreporter.stats.values()
        for report in outcomes
        if isinstance(report, pytest.TestReport)
    ]
    text = table(reports)
    if text:
        terminalreporter.section("faults")
        terminalreporter.write(text)
    if (path := config.getoption("--faults-table")) and text:
        Path(path).write_text(text)
