"""Backups that are damaged, of something else, taken while somebody writes; no room to restore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jupbox import errors
from tests.faults.choosing import sample
from tests.faults.results import Outcome
from tests.faults.rounds import Bench
from tests.faults.standin import BOX
from tests.faults.test_disk_full import full
from tests.integration.errorbox import two_lines

_WRITER = """
import threading, time, os
def write():
    for number in range(10**6):
        with open(os.path.expanduser("~/growing"), "a") as file:
            file.write("x" * 10000)
        with open(os.path.expanduser("~/.~changing.ipynb"), "w") as file:
            file.write(str(number) * 1000)
        time.sleep(0.001)
threading.Thread(target=write, daemon=True).start()
"""


@pytest.fixture
def backup(bench: Bench, tmp_path: Path) -> Path:
    """A backup of the bench's work."""
    file = tmp_path / "fault.tar.zst"
    bench.laptop.must("backup", BOX, str(file))
    return file


def cut_short(file: Path) -> None:
    """The second half never came."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def without_its_end(file: Path) -> None:
    """A byte is missing."""
    file.write_bytes(file.read_bytes()[:-1])


def flipped(file: Path) -> None:
    """One bit is another."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def flipped_early(file: Path) -> None:
    """A bit near the beginning is another."""
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    """Nothing is in it."""
    file.write_bytes(b"")


DAMAGES = [cut_short, without_its_end, flipped, flipped_early, empty]


@sample(0.5)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup(
    damage: Callable[[Path], None], bench: Bench, backup: Path, outcome: Outcome
) -> None:
    outcome.fault = "a damaged backup"
    outcome.how = "truncated, bit-flipped or empty, given to `restore`"
    identity, work, there = bench.stack.identity(), bench.work(), bench.inventory()
    damage(backup)

    done = bench.laptop.jupbox("restore", BOX, str(backup), "--yes")

    assert done.code == errors.BackupError.exit_code, done.stderr
    two_lines(done.stderr)
    assert (bench.stack.identity(), bench.work(), bench.inventory()) == (identity, work, there)
    assert bench.answers()
    outcome.result = "refused, nothing touched"


@sample(0.3)
def test_a_backup_of_another_box(bench: Bench, backup: Path, outcome: Outcome) -> None:
    outcome.fault, outcome.how = "a backup of another box", "given to `restore`"
    identity, work = bench.stack.identity(), bench.work()
    path = bench.laptop.folder / "jupbox.toml"
    mine = path.read_text()
    path.write_text(mine.replace(f"[boxes.{BOX}]", "[boxes.other]").replace("8899", "8898"))
    try:
        done = bench.laptop.jupbox("restore", "other", str(backup), "--yes")
    finally:
        path.write_text(mine)
    assert done.code == errors.BackupError.exit_code, done.stderr
    assert (bench.stack.identity(), bench.work()) == (identity, work)
    outcome.result = "refused, nothing touched"


@sample(0.4)
def test_with_a_writer(bench: Bench, tmp_path: Path, outcome: Outcome) -> None:
    outcome.fault, outcome.how = "backup while a kernel writes", "a growing and a changing file"
    kernel = bench.stack.start_kernel()
    bench.stack.run_in_kernel(kernel, _WRITER)
    file = tmp_path / "fault.tar.zst"

    bench.laptop.must("backup", BOX, str(file))
    bench.stack.end_kernel(kernel)
    bench.laptop.must("restore", BOX, str(file), "--yes")

    outcome.result = "whole, and restored"
    assert bench.answers()
    assert not bench.lost()


@sample(0.2)
def test_onto_a_full_disk(small_bench: Bench, tmp_path: Path, outcome: Outcome) -> None:
    bench = small_bench
    outcome.fault, outcome.how = "disk full in `restore`", "500 kB left"
    file = tmp_path / "fault.tar.zst"
    bench.laptop.must("backup", BOX, str(file))
    identity, there = bench.stack.identity(), bench.inventory()

    with full(bench, left=500, to_root=True):
        done = bench.laptop.jupbox("restore", BOX, str(file), "--yes")

    assert done.code == errors.DiskFullError.exit_code, done.stderr
    assert bench.stack.identity()[0] == identity[0]
    assert bench.inventory() == there
    outcome.result = "clear error, the server runs with what it had"
    bench.assert_well()
