"""Where versions are kept, and when they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from jupbox import labels as label
from jupbox.console import Stage
from jupbox.errors import LockError, ResolveError
from jupbox.host.base import Base
from jupbox.host.engine import Engine
from jupbox.host.simulate import Simulated
from jupbox.lock import AptPackage, BaseLock, ImageLock, Lock, PythonPackage, dump_lock
from jupbox.release import locking
from tests.unit.fakes import FakeStage, container, image
from tests.unit.host.test_network import look
from tests.unit.release.bench import (
    FACTS,
    MINE,
    NOW,
    Bench,
    bench,
    with_box,
)
from tests.unit.test_render import LOCK

ARM = replace(FACTS, architecture="arm64")


# --- locks --------------------------------------------------------------------------------------


def test_no_lock_is_an_empty_one(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    assert locking.read_lock(made.site).images == {}
    assert locking.usable_lock(made.site, made.site.project.image("minimal")) is None


def test_a_written_lock_is_read_again_and_others_stay(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    locking.write_lock(made.site, LOCK)
    locking.write_lock(made.site, replace(LOCK, name="other"))
    found = locking.read_lock(made.site)
    assert set(found.images) == {"datasci", "other"}
    assert found.images["datasci"].digest() == LOCK.digest()


def test_a_lock_that_lacks_the_boxs_architecture_holds_for_all_else(tmp_path: Path) -> None:
    made = bench(root=tmp_path, facts=ARM)
    minimal = made.site.project.image("minimal")
    locking.write_lock(made.site, replace(LOCK, name="minimal", definition=minimal.digest))
    found = locking.usable_lock(made.site, minimal)
    assert found is not None
    assert found.platforms.keys() == {"amd64"}


def test_a_teams_stale_lock_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    locking.write_lock(made.site, replace(LOCK, name="minimal"))
    before = (tmp_path / "jupbox.lock").read_bytes()
    with pytest.raises(LockError, match="does not match") as caught:
        locking.usable_lock(made.site, made.site.project.image("minimal"))
    assert "jupbox lock minimal" in caught.value.remedy
    assert (tmp_path / "jupbox.lock").read_bytes() == before


def test_without_a_project_a_stale_lock_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench()
    monkeypatch.setattr(locking, "lock_path", lambda project, box: tmp_path / "jupbox.lock")
    locking.write_lock(made.site, replace(LOCK, name="minimal"))
    assert locking.usable_lock(made.site, made.site.project.image("minimal")) is None


def test_a_laptop_without_a_lock_takes_the_running_stacks(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    minimal = made.site.project.image("minimal")
    lock = replace(LOCK, name="minimal", definition=minimal.digest)
    env = image("env", {label.KIND: "environment", label.LOCK: lock.digest()})
    made.engine.all_images.append(env)
    made.engine.all_containers.append(container("c", {**MINE, label.LOCK: lock.digest()}))
    text = dump_lock(Lock().with_image(lock)).encode()
    made.engine.in_images[env.id] = {"/opt/env/image.lock/image.lock": text}
    found, _ = locking.recorded_lock(made.site, made.state, minimal, record=True)
    assert found is not None
    assert found.digest() == lock.digest()
    assert locking.read_lock(made.site).images["minimal"].digest() == lock.digest()


@pytest.mark.parametrize(
    ("base", "wanted", "remedy"),
    [
        ("debian:trixie-slim", "<3.12", 'write base = "debian:bookworm-slim", which has it'),
        ("debian:bookworm-slim", "==3.12.*", "debian:trixie-slim has 3.13"),
    ],
)
def test_a_base_without_the_required_python_is_an_error_that_says_which_has_it(
    base: str, wanted: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    minimal = replace(bench().site.project.image("minimal"), base=base, requires_python=wanted)
    monkeypatch.setattr(locking, "resolve_interpreter", lambda *_, **more: None)
    with pytest.raises(ResolveError, match=f"{base} has Python 3.14; minimal requires ") as caught:
        locking._interpreter(bench().site, minimal, "3.14", look(), None)
    assert remedy in caught.value.remedy


def test_without_a_project_each_box_has_a_lock_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    made = bench()
    locking.write_lock(made.site, LOCK)
    assert locking.read_lock(with_box(made, name="other")).images == {}
    assert locking.read_lock(made.site).images.keys() == {"datasci"}


# --- resolving ----------------------------------------------------------------------------------


@dataclass
class Resolver:
    """Resolves without an engine, an index or a mirror."""

    made: Bench
    python_version: str = "3.13"
    python_asked: int = 0

    def __call__(self, *, keep: ImageLock | None) -> ImageLock:
        minimal = self.made.site.project.image("minimal")
        stage = cast(Stage, FakeStage())
        return locking.resolve_lock(self.made.site, minimal, stage=stage, keep=keep)

    def base(self, engine: Engine, reference: str, **options: object) -> Base:
        lock = BaseLock(reference=reference, kind="rootfs", digest="sha256:" + "2" * 64)
        return Base(lock=lock, reference=reference)

    def apt(self, *arguments: object, **options: object) -> Simulated:
        packages = (AptPackage(name="git", version="2", architecture="arm64"),)
        return Simulated(python_version=self.python_version, packages=packages)

    def python(self, definition: tuple[str, ...], **options: object) -> tuple[PythonPackage, ...]:
        self.python_asked += 1
        return (LOCK.uv,)

    def uv(self, version: str | None, **options: object) -> PythonPackage:
        return LOCK.uv


@pytest.fixture
def resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver(bench(root=tmp_path, facts=ARM))
    monkeypatch.setattr(locking, "network_of", lambda site, definition: look())
    monkeypatch.setattr(locking.bases, "resolve", made.base)
    monkeypatch.setattr(locking, "resolve_apt", made.apt)
    monkeypatch.setattr(locking, "resolve_python", made.python)
    monkeypatch.setattr(locking, "resolve_uv", made.uv)
    return made


def test_another_architecture_keeps_the_versions_of_python_packages(resolver: Resolver) -> None:
    kept = replace(LOCK, name="minimal")
    found = resolver(keep=kept)
    assert resolver.python_asked == 0
    assert (found.python, found.uv, found.epoch) == (LOCK.python, LOCK.uv, LOCK.epoch)
    assert found.platforms["amd64"] == LOCK.platforms["amd64"]
    assert found.platforms["arm64"].apt[0].version == "2"
    written = locking.read_lock(resolver.made.site).images["minimal"]
    assert written.digest() == found.digest()


def test_another_python_has_packages_of_its_own(resolver: Resolver) -> None:
    resolver.python_version = "3.14"
    found = resolver(keep=replace(LOCK, name="minimal"))
    assert resolver.python_asked == 1
    assert found.platforms.keys() == {"arm64"}
    assert found.epoch == LOCK.epoch


def test_a_first_lock_is_of_today(resolver: Resolver) -> None:
    found = resolver(keep=None)
    assert resolver.python_asked == 1
    assert 0 <= NOW.timestamp() - found.epoch < 86_400
