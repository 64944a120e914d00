"""Which faults a run injects: a sample that changes by day, or all of them.

A test names with `@sample(N)` how many of its cases belong to a usual run; of a test with half a
case, every other run has one. `--full` takes all. The same seed takes the same cases, on every
worker.
"""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime

import pytest


def sample(cases: float) -> pytest.MarkDecorator:
    """Mark a test: that many of its cases are in a usual run, on average."""
    return pytest.mark.sample.with_args(cases)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the fault suite."""
    group = parser.getgroup("faults", "the fault suite")
    group.addoption("--full", action="store_true", help="every fault, not a sample of them")
    group.addoption(
        "--faults-seed",
        type=int,
        default=int(f"{datetime.now(UTC):%Y%m%d}"),
        metavar="N",
        help="what the sample depends on; today's date by default",
    )
    group.addoption("--faults-table", metavar="FILE", help="write the results there, as Markdown")


def pytest_report_header(config: pytest.Config) -> str:
    """How to have the same sample again."""
    if config.getoption("--full"):
        return "faults: all of them"
    return f"faults: a sample, --faults-seed={config.getoption('--faults-seed')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases that are not in the sample; a case named on the command line stays."""
    if config.getoption("--full") or any("::" in word for word in config.args):
        return
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sample"):
            cases[item.nodeid.partition("[")[0]].append(item)
    left_out = {item for of_test in cases.values() for item in _rest(config, of_test)}
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def _rest(config: pytest.Config, cases: list[pytest.Item]) -> set[pytest.Item]:
    marker = cases[0].get_closest_marker("sample")
    assert marker is not None
    test = cases[0].nodeid.partition("[")[0]
    chance = random.Random(f"{config.getoption('--faults-seed')} {test}")
    names = sorted(item.nodeid for item in cases)
    whole, part = divmod(marker.args[0], 1)
    count = int(whole) + (chance.random() < part)
    taken = set(chance.sample(names, min(count, len(names))))
    return {item for item in cases if item.nodeid not in taken}
