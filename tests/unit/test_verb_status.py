"""`status`: whether the image is, to the byte, what the lock records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jupbox import labels as label
from jupbox.lock import ImageLock
from jupbox.release import locking, verifying
from jupbox.workflows import status
from jupbox.workflows.found import Found
from tests.unit.fakes import image
from tests.unit.release.bench import bench
from tests.unit.test_render import LOCK

ONE, TWO = (f"sha256:{digit * 64}" for digit in "78")
RECORDED = LOCK.with_recorded("amd64", ONE)


@pytest.mark.parametrize(
    ("measured", "lock", "expected"),
    [
        pytest.param(ONE, RECORDED, "verified", id="the recorded one"),
        pytest.param(TWO, RECORDED, "drifted", id="another one"),
        pytest.param(None, RECORDED, "unknown", id="not measured"),
        pytest.param(ONE, LOCK, "unknown", id="not recorded"),
        pytest.param(ONE, None, "unknown", id="no lock"),
        pytest.param(ONE, replace(RECORDED, epoch=1), "unknown", id="another lock"),
        pytest.param(ONE, replace(RECORDED, recipe=1), "unknown", id="another recipe"),
    ],
)
def test_an_image_is_verified_when_it_was_found_to_be_what_its_lock_records(
    tmp_path: Path, measured: str | None, lock: ImageLock | None, expected: str
) -> None:
    made = bench(root=tmp_path)
    there = image("env", {label.KIND: "environment", label.LOCK: LOCK.digest()})
    made.engine.all_images.append(there)
    if measured:
        verifying.note_digest(made.site, there, measured)
    if lock:
        locking.write_lock(made.site, lock)
    assert status._bytes(Found(site=made.site, state=made.state), LOCK.digest()) == expected


@pytest.mark.parametrize("measured", [None, ONE])
def test_an_image_that_is_not_reproducible_is_said_to_be_that(
    tmp_path: Path, measured: str | None
) -> None:
    made, lock = bench(root=tmp_path), replace(LOCK, reproducible=False)
    there = image("env", {label.KIND: "environment", label.LOCK: lock.digest()})
    made.engine.all_images.append(there)
    if measured:
        verifying.note_digest(made.site, there, measured)
    locking.write_lock(made.site, lock)
    found = Found(site=made.site, state=made.state)
    assert status._bytes(found, lock.digest()) == "not reproducible"


def test_a_lock_that_also_has_another_architecture_is_the_same(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    there = image("env", {label.KIND: "environment", label.LOCK: LOCK.digest()})
    made.engine.all_images.append(there)
    verifying.note_digest(made.site, there, ONE)
    arm = replace(LOCK.platforms["amd64"], architecture="arm64")
    locking.write_lock(made.site, replace(RECORDED, platforms={**RECORDED.platforms, "arm64": arm}))
    assert status._bytes(Found(site=made.site, state=made.state), LOCK.digest()) == "verified"


def test_a_lock_that_cannot_be_read_is_no_failure_of_status(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    (tmp_path / "jupbox.lock").write_text("<<<<<<< HEAD\n")
    assert status._bytes(Found(site=made.site, state=made.state), LOCK.digest()) == "unknown"


def test_only_a_disk_that_is_nearly_full_is_told_of() -> None:
    disk = {"path": "/home/ada", "free_bytes": 10**9, "total_bytes": 10**11, "nearly_full": True}
    rows = status._full_rows({"disks": [disk, {**disk, "nearly_full": False}]})
    assert rows == [("Disk", "nearly full: 1.0 GB of 100 GB free at /home/ada")]
    assert status._full_rows({}) == []  # of an older server


@pytest.mark.parametrize(
    ("kills", "said"),
    [(None, ""), (0, ""), (1, "; it was used up once, and a process ended")],
)
def test_what_the_used_up_memory_cost_is_told(kills: int | None, said: str) -> None:
    assert status._kills({"oom_kills": kills}) == said
