"""A teammate: the project's clone, another laptop, another machine, the same environment."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupbox.lock import load_lock
from tests.integration.jupbox_command import Laptop, MainJob

PROJECT = """\
[boxes.store]
host = "storebox"

[boxes.teammate]
host = "local"
port = "auto"
files = "volume"
"""


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def clone(ada_on_store: MainJob, other_laptop: Laptop, tmp_path: Path) -> Iterator[Laptop]:
    """The project with the lock of what runs on storebox, cloned to a laptop without any state."""
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "jupbox.toml").write_text(PROJECT)
    (origin / "jupbox.lock").write_text(ada_on_store.lock.read_text())
    git(origin, "init", "--quiet")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "all")
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    laptop = other_laptop.at(tmp_path / "clone")
    try:
        yield laptop
    finally:
        laptop.jupbox("rm", "teammate", "--data", "--no-backup", "--yes", input="teammate\n")


@pytest.mark.slow
def test_a_clone_gives_the_same_bytes_on_another_engine(
    ada_on_store: MainJob, clone: Laptop
) -> None:
    """storebox has a containerd image store; this machine's engine builds it by itself."""
    assert ada_on_store.status()["bytes"] == "verified"
    said = clone.must("verify", "minimal", "--rebuild", "--on", "teammate")
    assert "minimal on this machine is what the lock records, to the byte." in said.stdout
    clone.must("up", "teammate", "--locked")
    assert clone.must("status", "teammate", "--json").json["bytes"] == "verified"
    recorded = load_lock(ada_on_store.lock.read_text(), source="").images["minimal"]
    (platform,) = recorded.platforms.values()
    assert platform.environment is not None
    assert platform.environment in clone.must("verify", "teammate").stdout
    assert git(clone.folder, "status", "--porcelain") == ""
