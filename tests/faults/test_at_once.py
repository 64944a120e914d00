"""Several people, or one several times, change the same server at the same moment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jupbox import errors
from tests.faults.choosing import sample
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX
from tests.integration.boxes.boxes import Keyring
from tests.integration.jupbox_command import Laptop, new_laptop

OTHERS = 4


@pytest.fixture
def laptops(bench: Bench, keyring: Keyring, tmp_path: Path) -> Iterator[list[Laptop]]:
    """Five laptops with the same project."""
    with ExitStack() as stack:
        found = [bench.laptop]
        for number in range(OTHERS):
            folder = tmp_path / str(number)
            folder.mkdir()
            laptop = stack.enter_context(new_laptop(folder, keyring))
            (folder / "project").mkdir()
            found.append(laptop.at(folder / "project"))
        yield found


@sample(0.5)
@pytest.mark.parametrize("same", [True, False], ids=["one laptop", "laptops"])
@pytest.mark.parametrize("count", [2, 5])
def test_one_wins_and_the_others_are_told_so(
    count: int, same: bool, bench: Bench, laptops: list[Laptop], outcome: Outcome
) -> None:
    outcome.fault = f"{count} `up`s at once"
    outcome.how = "from one laptop" if same else "from as many laptops"
    bench.want_a_change()
    for laptop in laptops[1:]:
        for name in ("jupbox.toml", "jupbox.lock"):
            shutil.copy(bench.laptop.folder / name, laptop.folder)
    who = [laptops[0]] * count if same else laptops[:count]

    running = [
        subprocess.Popen(
            [sys.executable, "-m", "jupbox", "up", BOX],
            env=dict(laptop.environ), cwd=laptop.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for laptop in who
    ]  # fmt: skip
    ends = [(process.communicate(timeout=200)[1], process.returncode) for process in running]

    codes = sorted(code for _, code in ends)
    assert set(codes) <= {0, errors.BusyError.exit_code}, ends
    assert 0 in codes, ends
    outcome.result = "one went through, the others were told who is at it"
    assert bench.running_image() == bench.image
    bench.assert_well()
