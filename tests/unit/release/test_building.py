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
from jupbox.errors import BuildError, DriftError, LockError
from jupbox.host.base import Base
from jupbox.host.engine import Engine
from jupbox.host.inspected import Image
from jupbox.lock import FileLock, ImageLock
from jupbox.project import CopiedFile
from jupbox.release import building, locking
from jupbox.release.building import Rules
from jupbox.release.locking import Upgrade
from tests.unit.fakes import FakeEngine, FakeStage, image
from tests.unit.host.test_engine import Told
from tests.unit.host.test_network import look
from tests.unit.release.bench import Bench, bench
from tests.unit.test_render import LOCK

# --- progress -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#7 [debs 1/1] RUN --mount=x     sh /build/fetch.sh", "getting Debian packages"),
        ("#8 [system 1/1] RUN --mount=x     sh /build/apt.sh /build/apt.txt", "installing Debian"),
        ("#9 [tools 1/1] RUN --mount=x     sh /build/tools.sh", "getting uv"),
        ("#10 [stage-2 1/2] RUN --mount=x     sh /build/python.sh", "Python packages"),
        ("#9 [stage-2 7/8] RUN --mount=x     sh /build/run.sh 1", "the definition's commands"),
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
    refuses: str = ""
    asked: list[Mapping[str, object]] = field(default_factory=list)

    def build(self, context: Path, *, tag: str, labels: Mapping[str, str], **more: object) -> Image:
        self.asked.append({"tag": tag, **more})
        if self.refuses:
            raise BuildError(self.refuses, remedy="none")
        self.modes = {
            str(path.relative_to(context)): stat.S_IMODE(path.stat().st_mode)
            for path in context.rglob("*")
        }
        return image(tag, labels)


def builder(root: Path | None = None, *, refuses: str = "") -> tuple[Bench, Builder]:
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

MEASURED = "sha256:" + "7" * 64


@dataclass
class Again:
    """Stands in for resolving, and keeps what it was asked."""

    answer: ImageLock
    kept: list[tuple[ImageLock | None, Upgrade]] = field(default_factory=list)

    def __call__(
        self, site: object, definition: object, *, stage: object, old: ImageLock | None,
        upgrade: Upgrade,
    ) -> ImageLock:  # fmt: skip
        self.kept.append((old, upgrade))
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
APT = Upgrade(names=frozenset({"apt"}))


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Again:
    """Only the base of MOVED can be had; every image is measured alike."""
    made = Again(MOVED)
    there = MOVED.platforms["amd64"].base

    def locked(engine: object, lock: object, **more: object) -> Base | None:
        return Base(lock=there, reference="base") if lock == there else None

    monkeypatch.setattr(building, "resolve_lock", made)
    monkeypatch.setattr(building, "network_of", lambda site, definition: look())
    monkeypatch.setattr(building.bases, "locked", locked)
    monkeypatch.setattr(building.verifying, "measure", lambda *_, **options: MEASURED)
    monkeypatch.setattr(locking, "lock_path", lambda project, box: tmp_path / "jupbox.lock")
    return made


def build(
    made: Bench, lock: ImageLock, notes: list[str], *, image: str = "minimal", fresh: bool = False,
    rules: Rules = Rules(),  # noqa: B008 - frozen
) -> tuple[ImageLock, Image]:  # fmt: skip
    return building.build(
        made.site, made.site.project.image(image), lock, fresh=fresh, rules=rules, stage=STAGE,
        note=notes.append,
    )  # fmt: skip


def test_a_teams_locked_base_that_is_out_of_reach_is_an_error(tmp_path: Path, again: Again) -> None:
    made, _ = builder(tmp_path)
    with pytest.raises(LockError, match="locked base debian:trixie-slim") as caught:
        build(made, LOCK, [])
    assert "jupbox lock datasci --upgrade base --on workbox" in caught.value.remedy
    assert again.kept == []
    assert list(tmp_path.iterdir()) == []


def test_without_a_project_a_base_that_is_out_of_reach_is_resolved_anew(again: Again) -> None:
    made, _ = builder()
    notes: list[str] = []
    lock, built = build(made, LOCK, notes)
    assert again.kept == [(LOCK, Upgrade(names=frozenset({"base", "apt"})))]
    assert lock == MOVED.with_recorded("amd64", MEASURED)
    assert built.labels[label.LOCK] == MOVED.digest()
    assert "out of reach" in notes[0]


def test_a_locked_build_resolves_nothing_anew_not_even_without_a_project(again: Again) -> None:
    made, _ = builder()
    with pytest.raises(LockError, match="out of reach"):
        build(made, LOCK, [], rules=Rules(locked=True))
    assert again.kept == []


# as the engine says what fetch.sh wrote, for the third step of a build
GONE = Told()._build_error(
    ["#7 [debs 1/1] RUN sh /build/fetch.sh", "#7 2.41 E: gone from the archive: git=1:2.47.3-0",
     "ERROR: failed to solve: process did not complete successfully: exit code: 44"]
).message  # fmt: skip


def test_a_build_that_fails_for_another_reason_is_final(again: Again) -> None:
    made, _ = builder(refuses="no such version")
    with pytest.raises(BuildError, match="no such version"):
        build(made, MOVED, [])
    assert again.kept == []


@pytest.mark.parametrize(
    ("image", "fresh", "rules"),
    [
        pytest.param("own", False, Rules(), id="a team's own definition"),
        pytest.param("minimal", True, Rules(), id="resolved a moment ago"),
        pytest.param("minimal", False, Rules(locked=True), id="locked"),
    ],
)
def test_a_version_that_is_gone_is_an_error_that_names_it(
    again: Again, tmp_path: Path, image: str, fresh: bool, rules: Rules
) -> None:
    made, _ = builder(tmp_path, refuses=GONE)
    own = replace(made.site.project.image("minimal"), name="own", shipped=False)
    images = {**made.site.project.images, "own": own}
    made.site = replace(made.site, project=replace(made.site.project, images=images))
    with pytest.raises(LockError) as caught:
        build(made, MOVED, [], image=image, fresh=fresh, rules=rules)
    assert caught.value.message == "git 1:2.47.3-0 is gone from the Debian mirror."
    assert "jupbox lock --upgrade apt" in caught.value.remedy
    assert again.kept == []


def test_of_a_definition_that_ships_it_is_resolved_anew_once(again: Again) -> None:
    made, engine = builder(refuses=GONE)
    notes: list[str] = []
    with pytest.raises(LockError, match="is gone"):
        build(made, MOVED, notes)
    assert again.kept == [(MOVED, APT)]
    assert len(engine.asked) == 2
    assert notes == ["git 1:2.47.3-0 is gone from the Debian mirror: the lock's apt part was "
                     "resolved anew."]  # fmt: skip


# --- what came out ------------------------------------------------------------------------------


def test_what_was_built_is_measured_recorded_and_of_the_locks_time(again: Again) -> None:
    made, engine = builder()
    lock, _ = build(made, MOVED, [])
    assert lock.recorded("amd64") == MEASURED
    assert locking.read_lock(made.site).images["datasci"].recorded("amd64") == MEASURED
    (asked,) = engine.asked
    assert (asked["epoch"], asked["fresh"]) == (LOCK.epoch, False)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_build_that_gives_another_image_is_an_error_unless_it_is_allowed(
    again: Again, allowed: bool
) -> None:
    made, _ = builder()
    other = MOVED.with_recorded("amd64", "sha256:" + "8" * 64)
    notes: list[str] = []
    if not allowed:
        with pytest.raises(DriftError):
            build(made, other, notes)
        return
    lock, _ = build(made, other, notes, rules=Rules(allow_drift=True))
    assert lock == other
    assert len(notes) == 1


def test_a_build_from_nothing_has_its_own_name_and_uses_nothing_that_is_there(
    again: Again,
) -> None:
    made, engine = builder()
    base = Base(lock=MOVED.platforms["amd64"].base, reference="base")
    definition = made.site.project.image("minimal")
    building.build_image(made.site, definition, MOVED, base, STAGE, anew="jupbox-env:x")
    (asked,) = engine.asked
    assert (asked["tag"], asked["fresh"]) == ("jupbox-env:x", True)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (GONE, "git 1:2.47.3-0"),
        ("E: gone from the archive: a=1=2", "a 1=2"),
        ("E: a=1: the archive's file has another SHA-256 than the lock", None),
        ("", None),
    ],
)
def test_the_builds_own_script_says_what_is_gone(message: str, expected: str | None) -> None:
    assert building._gone(BuildError(message, remedy="none")) == expected


def test_a_sidecar_that_is_built_on_the_environment_is_not_taken_for_it() -> None:
    made = bench()
    labels = {label.KIND: "environment", label.LOCK: LOCK.digest()}
    sidecar = image("s-db:latest", {**labels, "com.docker.compose.project": "s"})
    made.engine.all_images.append(sidecar)
    assert building.environment_image(made.site, LOCK) is None
    environment = image("jupbox-env:x", labels)
    made.engine.all_images.append(environment)
    assert building.environment_image(made.site, LOCK) == environment
