"""From a lock to an environment image."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from jupbox import labels as label
from jupbox.console import Stage
from jupbox.errors import BuildError, LockError
from jupbox.host.base import Base
from jupbox.host.engine import Engine, Image
from jupbox.lock import FileLock, ImageLock
from jupbox.project import CopiedFile
from jupbox.release import building
from tests.unit.fakes import FakeEngine, FakeStage, image
from tests.unit.host.test_network import look
from tests.unit.release.bench import Bench, bench
from tests.unit.test_render import LOCK

# --- progress -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#8 [system 1/1] RUN --mount=x     sh /build/apt.sh /build/apt.txt", "Debian packages"),
        ("#9 [tools 1/1] RUN --mount=x     sh /build/tools.sh", "getting uv"),
        ("#10 [stage-2 1/2] RUN --mount=x     sh /build/python.sh", "Python packages"),
        ("#6 [2/3] RUN --mount=x     sh /build/user.sh alice 1 1 /build/groups.txt", "user"),
        ("#6 [stage-2  2/12] RUN sh /build/python.sh", "Python packages"),
        ("#8 2.345 Unpacking git (1:2.47) ...", None),
        ("#8 [system 1/1] COPY server /opt", None),
        ("#3 [internal] load build definition from Dockerfile", None),
        ("", None),
    ],
)
def test_a_line_of_the_build_says_what_is_done_now(line: str, expected: str | None) -> None:
    found = building.build_step(line)
    assert found is None if expected is None else expected in (found or "")


# --- contexts -----------------------------------------------------------------------------------


@dataclass
class Builder(FakeEngine):
    """Looks at what it is sent."""

    modes: dict[str, int] = field(default_factory=dict)
    refuses: bool = False

    def build(self, context: Path, *, tag: str, labels: Mapping[str, str], **more: object) -> Image:
        if self.refuses:
            raise BuildError("no such version", remedy="none")
        self.modes = {
            str(path.relative_to(context)): stat.S_IMODE(path.stat().st_mode)
            for path in context.rglob("*")
        }
        return image(tag, labels)


def builder(root: Path | None = None, *, refuses: bool = False) -> tuple[Bench, Builder]:
    engine, made = Builder(refuses=refuses), bench(root=root)
    return Bench(
        site=replace(made.site, engine=cast(Engine, engine)), engine=engine, machine=made.machine
    ), engine


STAGE = cast(Stage, FakeStage())


def test_what_is_built_is_readable_for_everybody_whatever_the_users_umask() -> None:
    made, engine = builder()
    before = os.umask(0o077)
    try:
        building.build_context(
            made.site, {"Dockerfile": b"", "server/deep/a.py": b""}, tag="t", labels={},
            secrets={}, stage=STAGE,
        )  # fmt: skip
    finally:
        os.umask(before)
    expected = {"Dockerfile": 0o644, "server": 0o755, "server/deep": 0o755}
    assert engine.modes == expected | {"server/deep/a.py": 0o644}


# --- files of the project ------------------------------------------------------------------------


COPIED = CopiedFile(target="/opt/a", path="data/a.csv", sha256="", executable=False)


def copying(root: Path | None, content: bytes) -> dict[str, bytes]:
    """What a build in a folder copies, where the lock has a hash of that content."""
    definition = replace(bench().site.project.image("minimal"), files=(COPIED,))
    hashed = hashlib.sha256(content).hexdigest()
    lock = replace(LOCK, files=(FileLock(target="/opt/a", sha256=hashed, mode="0644"),))
    return building.files_of(bench(root=root).site, definition, lock)


def test_files_are_read_from_the_projects_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_bytes(b"a")
    assert copying(tmp_path, b"a") == {"/opt/a": b"a"}
    with pytest.raises(LockError, match=r"data/a\.csv is not what jupbox\.lock has"):
        copying(tmp_path, b"b")


def test_a_file_that_is_not_here_is_named(tmp_path: Path) -> None:
    for root in (tmp_path, None):
        with pytest.raises(LockError, match=r"data/a\.csv is not here.* at /opt/a"):
            copying(root, b"a")


# --- a lock that holds no longer ----------------------------------------------------------------


@dataclass
class Again:
    """Stands in for resolving, and keeps what it was asked."""

    answer: ImageLock
    kept: list[ImageLock | None] = field(default_factory=list)

    def __call__(
        self, site: object, definition: object, *, stage: object, keep: ImageLock | None
    ) -> ImageLock:
        self.kept.append(keep)
        return self.answer


MOVED = replace(
    LOCK,
    platforms={
        "amd64": replace(
            LOCK.platforms["amd64"],
            base=replace(LOCK.platforms["amd64"].base, digest="sha256:" + "3" * 64),
        )
    },
)


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> Again:
    """Only the base of MOVED can be had."""
    made = Again(MOVED)
    there = MOVED.platforms["amd64"].base

    def locked(engine: object, lock: object, **more: object) -> Base | None:
        return Base(lock=there, reference="base") if lock == there else None

    monkeypatch.setattr(building, "resolve_lock", made)
    monkeypatch.setattr(building, "network_of", lambda site, definition: look())
    monkeypatch.setattr(building.bases, "locked", locked)
    return made


def build(made: Bench, lock: ImageLock, notes: list[str]) -> tuple[ImageLock, Image]:
    definition = made.site.project.image("minimal")
    return building.build(made.site, definition, lock, fresh=False, stage=STAGE, note=notes.append)


def test_a_teams_locked_base_that_is_out_of_reach_is_an_error(tmp_path: Path, again: Again) -> None:
    made, _ = builder(tmp_path)
    with pytest.raises(LockError, match="locked base debian:trixie-slim") as caught:
        build(made, LOCK, [])
    assert "jupbox lock datasci --on workbox" in caught.value.remedy
    assert again.kept == []
    assert list(tmp_path.iterdir()) == []


def test_without_a_project_a_base_that_is_out_of_reach_is_resolved_anew(again: Again) -> None:
    made, _ = builder()
    notes: list[str] = []
    lock, built = build(made, LOCK, notes)
    assert again.kept == [LOCK]
    assert lock == MOVED
    assert built.labels[label.LOCK] == MOVED.digest()
    assert "out of reach" in notes[0]


def test_a_failed_build_is_final_where_the_mirror_has_what_is_locked(again: Again) -> None:
    made, _ = builder(refuses=True)
    with pytest.raises(BuildError, match="no such version"):
        build(made, MOVED, [])
    assert again.kept == [MOVED]


def test_a_teams_lock_is_not_resolved_anew_after_a_failed_build(
    tmp_path: Path, again: Again
) -> None:
    made, _ = builder(tmp_path, refuses=True)
    with pytest.raises(BuildError):
        build(made, MOVED, [])
    assert again.kept == []


def test_a_sidecar_that_is_built_on_the_environment_is_not_taken_for_it() -> None:
    made = bench()
    labels = {label.KIND: "environment", label.LOCK: LOCK.digest()}
    sidecar = image("s-db:latest", {**labels, "com.docker.compose.project": "s"})
    made.engine.all_images.append(sidecar)
    assert building.environment_image(made.site, LOCK) is None
    environment = image("jupbox-env:x", labels)
    made.engine.all_images.append(environment)
    assert building.environment_image(made.site, LOCK) == environment
