"""Where versions are kept, and when they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from jupbox import labels as label
from jupbox.console import Stage
from jupbox.errors import LockError, ResolveError
from jupbox.host.base import Base
from jupbox.host.engine import Engine
from jupbox.host.simulate import Simulated
from jupbox.lock import (
    AptPackage,
    BaseLock,
    ImageLock,
    InterpreterLock,
    Lock,
    PlatformLock,
    PythonPackage,
    dump_lock,
)
from jupbox.project import ImageDefinition, Project, parse_project, shipped_definitions
from jupbox.release import locking
from jupbox.release.locking import NOTHING, Upgrade
from tests.unit.fakes import FakeStage, container, image
from tests.unit.host.test_network import look
from tests.unit.release.bench import FACTS, MINE, NOW, Bench, bench, with_box
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


OLD_TEXT = "schema = 1\n"


def test_a_teams_lock_of_an_older_format_is_an_error(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    (tmp_path / "jupbox.lock").write_text(OLD_TEXT)
    with pytest.raises(LockError, match="older jupbox"):
        locking.read_lock(made.site)


def test_without_a_project_a_lock_of_an_older_format_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench()
    monkeypatch.setattr(locking, "lock_path", lambda project, box: tmp_path / "jupbox.lock")
    (tmp_path / "jupbox.lock").write_text(OLD_TEXT)
    assert locking.read_lock(made.site).images == {}
    locking.write_lock(made.site, LOCK)
    assert locking.read_lock(made.site).images.keys() == {"datasci"}


def test_a_running_image_with_a_lock_of_an_older_format_says_nothing(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    env = image("env", {label.KIND: "environment", label.LOCK: "x"})
    made.engine.all_images.append(env)
    made.engine.all_containers.append(container("c", {**MINE, label.LOCK: "x"}))
    made.engine.in_images[env.id] = {"/opt/env/image.lock/image.lock": OLD_TEXT.encode()}
    assert locking.running_lock(made.site, made.state) is None


ARM_PART = replace(LOCK.platforms["amd64"], architecture="arm64", environment="sha256:" + "4" * 64)


def test_a_written_lock_keeps_what_is_there_for_other_architectures(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    both = replace(LOCK, platforms={**LOCK.platforms, "arm64": ARM_PART})
    locking.write_lock(made.site, both)
    locking.write_lock(made.site, LOCK)
    assert locking.read_lock(made.site).images["datasci"].platforms == both.platforms
    locking.write_lock(made.site, replace(LOCK, python=LOCK.python[:1]))
    found = locking.read_lock(made.site).images["datasci"]
    assert found.platforms["arm64"] == replace(ARM_PART, environment=None)


def test_the_same_lock_is_not_written_again(tmp_path: Path) -> None:
    made = bench(root=tmp_path)
    locking.write_lock(made.site, LOCK)
    path = tmp_path / "jupbox.lock"
    path.chmod(0o600)  # a new file would have its own mode
    before = path.stat()
    locking.write_lock(made.site, LOCK)
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)


def test_a_locked_build_takes_the_lock_of_its_architecture_and_what_is_recorded(
    tmp_path: Path,
) -> None:
    made = bench(root=tmp_path)
    minimal = made.site.project.image("minimal")
    mine = replace(LOCK, name="minimal", definition=minimal.digest).with_recorded(
        "amd64", "sha256:" + "5" * 64
    )
    locking.write_lock(made.site, replace(mine, platforms={**mine.platforms, "arm64": ARM_PART}))
    found = locking.locked(made.site, minimal)
    assert found.digest() == mine.digest()
    assert found.platforms == mine.platforms


@pytest.mark.parametrize(
    ("lock", "message"),
    [
        pytest.param(None, "There is no lock for minimal.", id="none"),
        pytest.param(
            replace(LOCK, platforms={"arm64": ARM_PART}), "no lock for minimal on amd64", id="other"
        ),
        pytest.param(replace(LOCK, definition="0" * 64), "does not match", id="stale"),
    ],
)
def test_without_a_lock_that_holds_a_locked_build_is_an_error_and_writes_nothing(
    tmp_path: Path, lock: ImageLock | None, message: str
) -> None:
    made = bench(root=tmp_path)
    minimal = made.site.project.image("minimal")
    if lock:
        fits = lock.definition == LOCK.definition
        given = replace(lock, name="minimal", **({"definition": minimal.digest} if fits else {}))
        locking.write_lock(made.site, given)
    before = [path.read_bytes() for path in tmp_path.iterdir()]
    # the running stack's own would be the next place to look
    made.engine.all_containers.append(container("c", {**MINE, label.LOCK: LOCK.digest()}))
    with pytest.raises(LockError, match=message) as caught:
        locking.locked(made.site, minimal)
    assert "jupbox lock minimal" in caught.value.remedy
    assert [path.read_bytes() for path in tmp_path.iterdir()] == before


def test_without_a_project_each_box_has_a_lock_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    made = bench()
    locking.write_lock(made.site, LOCK)
    assert locking.read_lock(with_box(made, name="other")).images == {}
    assert locking.read_lock(made.site).images.keys() == {"datasci"}


# --- what shall move ------------------------------------------------------------------------------

ALL = Upgrade(everything=True)
PANDAS = Upgrade(names=frozenset({"pandas"}))
NUMPY, SCIPY = (
    PythonPackage(name=name, version="1", marker=None, hashes=LOCK.uv.hashes)
    for name in ("numpy", "pandas")
)


@pytest.mark.parametrize(
    ("upgrade", "kinds"),
    [
        (NOTHING, set()),
        (ALL, {"base", "apt", "python", "uv"}),
        (PANDAS, set()),
        (Upgrade(names=frozenset({"apt"})), {"apt"}),
        (Upgrade(names=frozenset({"python", "uv", "git"})), {"python", "uv"}),
    ],
)
def test_a_kind_moves_when_all_does_or_it_is_named(upgrade: Upgrade, kinds: set[str]) -> None:
    assert {kind for kind in ("base", "apt", "python", "uv") if upgrade.of(kind)} == kinds


def test_a_package_stays_unless_it_is_named() -> None:
    both = (NUMPY, SCIPY)
    assert NOTHING.without(both) == both
    assert PANDAS.without(both) == (NUMPY,)
    assert (PANDAS.touches(both), PANDAS.touches((NUMPY,)), NOTHING.touches(both)) == (
        True, False, False,
    )  # fmt: skip


# --- resolving ----------------------------------------------------------------------------------

TOML = """\
[images.low]
base = "debian:trixie-slim"
python = ["jupyterlab"]
[images.mid]
extends = "low"
python = ["pandas"]
[images.high]
extends = "mid"
python = ["polars"]
apt = ["git"]
"""
BASE = BaseLock(
    reference="debian:trixie-slim", kind="rootfs", digest="sha256:" + "2" * 64, epoch=1_767_139_200,
    snapshot="20251231T080000Z",
)  # fmt: skip
NEEDED = {
    "jupyterlab": ("jupyterlab", "tornado"),
    "pandas": ("pandas", "numpy"),
    "polars": ("polars", "numpy"),
}


def project(root: Path, text: str = TOML) -> Project:
    return parse_project(
        text, source="jupbox.toml", root=root, user_text=None, user_source="config.toml",
        shipped=shipped_definitions(),
    )  # fmt: skip


@dataclass
class Resolver:
    """Resolves without an engine, an index or a mirror; says what it was asked.

    Attributes:
        versions: what the mirror and the index have now.
        asked: of whom anything was asked.
        kept: what was preferred, by whom.
    """

    made: Bench
    python_version: str = "3.13"
    snapshot: str = "20260101T080000Z"
    base_lock: BaseLock = BASE
    base_there: bool = True
    versions: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    kept: dict[str, set[str]] = field(default_factory=dict)
    layers: list[list[str]] = field(default_factory=list)

    def __call__(
        self, name: str = "low", *, old: ImageLock | None = None, upgrade: Upgrade = NOTHING,
        **options: Any,
    ) -> ImageLock:  # fmt: skip
        self.asked.clear()
        self.kept.clear()
        stage = cast(Stage, FakeStage())
        return locking.resolve_lock(
            self.made.site, self.image(name), stage=stage, old=old, upgrade=upgrade, **options
        )

    def image(self, name: str) -> ImageDefinition:
        return self.made.site.project.image(name)

    def written(self, name: str = "low") -> ImageLock:
        return locking.read_lock(self.made.site).images[name]

    def define(self, text: str) -> None:
        root = self.made.site.project.root
        assert root is not None
        self.made.site = replace(self.made.site, project=project(root, text))

    def later(self, days: int) -> None:
        moment = NOW + timedelta(days=days)

        def now() -> datetime:
            return moment

        self.made.site = replace(self.made.site, around=replace(self.made.site.around, now=now))

    # -- what stands in for host

    def locked(self, engine: Engine, lock: BaseLock, **options: object) -> Base | None:
        self.asked.append("locked base")
        return Base(lock=lock, reference="base:tag") if self.base_there else None

    def base(self, engine: Engine, reference: str, *, anew: bool, **options: object) -> Base:
        self.asked.append("base anew" if anew else "base")
        return Base(lock=self.base_lock, reference="base:tag")

    def apt(
        self, engine: Engine, base: str, layers: Sequence[Sequence[str]], network: object, *,
        keep: Sequence[AptPackage], **options: object,
    ) -> Simulated:  # fmt: skip
        self.asked.append("apt")
        self.layers = [list(layer) for layer in layers]
        stay = {package.name: package.version for package in keep}
        self.kept["apt"] = set(stay)
        packages = tuple(
            AptPackage(
                name=name, version=stay.get(name) or self.versions.get(name, "1"),
                architecture="amd64", sha256="6" * 64, layer=number,
            )
            for number, layer in enumerate([["python3", *layers[0]], *layers[1:]], 1)
            for name in layer
        )  # fmt: skip
        installed = (AptPackage(name="bash", version="5", architecture="amd64"),)
        return Simulated(
            packages=packages, python_version=self.python_version, installed=installed,
            snapshot=self.snapshot,
        )  # fmt: skip

    def python(
        self, requirements: Sequence[str], *, prefer: Sequence[PythonPackage], **options: object
    ) -> tuple[PythonPackage, ...]:
        self.asked.append("python")
        stay = {package.name: package.version for package in prefer}
        self.kept.setdefault("python", set(stay))
        names = {needed for one in requirements for needed in NEEDED.get(one, (one,))}
        if "conflict" in names and "polars" not in names:
            raise ResolveError("no such combination", remedy="none")
        return tuple(
            PythonPackage(
                name=name, version=stay.get(name) or self.versions.get(name, "1"), marker=None,
                hashes=LOCK.uv.hashes,
            )
            for name in sorted(names)
        )  # fmt: skip

    def uv(self, version: str | None, **options: object) -> PythonPackage:
        self.asked.append("uv")
        return replace(LOCK.uv, version=self.versions.get("uv", "1"))


@pytest.fixture
def resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = bench(root=tmp_path)
    made.site = replace(made.site, project=project(tmp_path))
    resolver = Resolver(made)
    monkeypatch.setattr(locking, "network_of", lambda site, definition: look())
    monkeypatch.setattr(locking.bases, "locked", resolver.locked)
    monkeypatch.setattr(locking.bases, "resolve", resolver.base)
    monkeypatch.setattr(locking, "resolve_apt", resolver.apt)
    monkeypatch.setattr(locking, "resolve_python", resolver.python)
    monkeypatch.setattr(locking, "resolve_uv", resolver.uv)
    return resolver


def versions(lock: ImageLock) -> dict[str, str]:
    apt = [package for part in lock.platforms.values() for package in part.apt]
    return {package.name: package.version for package in (lock.uv, *lock.python, *apt)}


def layers(lock: ImageLock) -> dict[str, int]:
    apt = [package for part in lock.platforms.values() for package in part.apt]
    return {package.name: package.layer for package in (*lock.python, *apt)}


def test_a_first_lock_is_of_today_and_of_all_that_was_found(resolver: Resolver) -> None:
    found = resolver()
    assert resolver.asked == ["base", "apt", "python", "uv"]
    assert 0 <= NOW.timestamp() - found.epoch < 86_400
    assert (found.definition, found.system) == (
        resolver.image("low").digest, resolver.image("low").system_digest,
    )  # fmt: skip
    assert found.platforms == {
        "amd64": PlatformLock(
            architecture="amd64",
            base=BASE,
            python_version="3.13",
            snapshot="20260101T080000Z",
            base_packages=(AptPackage(name="bash", version="5", architecture="amd64"),),
            apt=(AptPackage(name="python3", version="1", architecture="amd64", sha256="6" * 64),),
        )
    }
    assert resolver.written() == found


def test_what_a_registrys_base_holds_is_not_listed(resolver: Resolver) -> None:
    resolver.base_lock = replace(BASE, kind="registry")
    assert resolver().platforms["amd64"].base_packages == ()


def test_a_lock_that_shall_not_be_recorded_is_not(resolver: Resolver) -> None:
    resolver(record=False)
    assert locking.read_lock(resolver.made.site).images == {}


@pytest.mark.parametrize("upgrade", [NOTHING, ALL], ids=["as it is", "all of it"])
def test_locking_again_changes_no_byte_where_nothing_new_is_there(
    resolver: Resolver, tmp_path: Path, upgrade: Upgrade
) -> None:
    first = resolver()
    locking.write_lock(resolver.made.site, first.with_recorded("amd64", "sha256:" + "5" * 64))
    before = (tmp_path / "jupbox.lock").read_bytes()
    resolver.later(days=3)
    resolver.snapshot = "20260104T080000Z"
    found = resolver(old=resolver.written(), upgrade=upgrade)
    assert (tmp_path / "jupbox.lock").read_bytes() == before
    assert found.recorded("amd64") == "sha256:" + "5" * 64


def test_the_order_of_packages_is_no_reason_to_change_a_byte(
    resolver: Resolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text sorts a package that has two versions by its markers."""
    one, two = (
        replace(NUMPY, version=version, marker=f"platform_machine == '{machine}'")
        for version, machine in (("1", "x86_64"), ("2", "aarch64"))
    )
    monkeypatch.setattr(locking, "resolve_python", lambda *_, **options: (one, two))
    resolver()
    before = (tmp_path / "jupbox.lock").read_bytes()
    resolver.snapshot = "20260104T080000Z"
    resolver(old=resolver.written(), upgrade=ALL)
    assert (tmp_path / "jupbox.lock").read_bytes() == before


def test_a_lock_that_holds_asks_nobody(resolver: Resolver) -> None:
    old = resolver()
    assert resolver(old=old) == old
    assert resolver.asked == []


def test_other_python_requirements_ask_no_engine_and_move_nothing_else(resolver: Resolver) -> None:
    old = resolver()
    resolver.define(TOML.replace('["jupyterlab"]', '["jupyterlab", "pandas"]'))
    resolver.versions = dict.fromkeys(("jupyterlab", "tornado", "python3", "uv", "pandas"), "2")
    found = resolver(old=old)
    assert set(resolver.asked) == {"python"}
    assert found.platforms == old.platforms
    assert found.epoch == old.epoch
    assert versions(found) == versions(old) | {"pandas": "2", "numpy": "1"}


def test_another_lock_has_no_recorded_digest(resolver: Resolver) -> None:
    """Else what is built from it would count as drifted."""
    old = resolver().with_recorded("amd64", "sha256:" + "5" * 64)
    locking.write_lock(resolver.made.site, old)
    resolver.define(TOML.replace('["jupyterlab"]', '["jupyterlab", "pandas"]'))
    assert resolver(old=old).platforms["amd64"].environment is None
    assert resolver.written().platforms["amd64"].environment is None


def test_a_newer_recipe_is_another_lock_of_the_same_packages(resolver: Resolver) -> None:
    first = resolver()
    old = replace(first, recipe=1).with_recorded("amd64", "sha256:" + "5" * 64)
    assert resolver(old=old) == first
    assert resolver.asked == []


def test_other_debian_packages_keep_the_base_and_what_is_there(resolver: Resolver) -> None:
    old = resolver()
    resolver.define(TOML.replace('["jupyterlab"]', '["jupyterlab"]\napt = ["tree"]'))
    resolver.versions = {"python3": "2", "tree": "2"}
    resolver.base_lock = replace(BASE, digest="sha256:" + "9" * 64)
    found = resolver(old=old)
    assert "locked base" in resolver.asked
    assert found.platforms["amd64"].base == BASE
    assert versions(found) == versions(old) | {"tree": "2"}


def test_a_base_that_is_gone_is_replaced_where_the_system_is_resolved(resolver: Resolver) -> None:
    old = resolver()
    resolver.define(TOML.replace('["jupyterlab"]', '["jupyterlab"]\napt = ["tree"]'))
    resolver.base_there = False
    resolver.base_lock = replace(BASE, digest="sha256:" + "9" * 64)
    assert resolver(old=old).platforms["amd64"].base == resolver.base_lock


def test_another_base_by_name_is_not_the_one_of_before(resolver: Resolver) -> None:
    old = resolver()
    resolver.define(TOML.replace("trixie-slim", "trixie"))
    resolver.base_lock = replace(BASE, reference="debian:trixie", digest="sha256:" + "9" * 64)
    assert resolver(old=old).platforms["amd64"].base == resolver.base_lock
    assert "locked base" not in resolver.asked


NEW = dict.fromkeys(("uv", "jupyterlab", "tornado", "python3", "git", "numpy", "pandas"), "2")


@pytest.mark.parametrize(
    ("names", "moved", "asked"),
    [
        pytest.param((), {"uv", "jupyterlab", "tornado", "python3"}, {"base anew"}, id="all"),
        pytest.param(("tornado",), {"tornado"}, set(), id="a Python package"),
        pytest.param(("python3",), {"python3"}, {"locked base"}, id="a Debian package"),
        pytest.param(("python",), {"jupyterlab", "tornado"}, set(), id="Python packages"),
        pytest.param(("apt",), {"python3"}, {"locked base"}, id="Debian packages"),
        pytest.param(("uv",), {"uv"}, set(), id="the installer"),
        pytest.param(("base",), set(), {"base anew"}, id="the base"),
    ],
)
def test_only_what_is_asked_to_moves(
    resolver: Resolver, names: tuple[str, ...], moved: set[str], asked: set[str]
) -> None:
    old = resolver()
    resolver.versions = NEW
    resolver.base_lock = replace(BASE, digest="sha256:" + "9" * 64)
    upgrade = Upgrade(everything=not names, names=frozenset(names))
    found = resolver(old=old, upgrade=upgrade)
    after = versions(found)
    assert {name for name, version in versions(old).items() if after[name] != version} == moved
    assert {word for word in resolver.asked if "base" in word} == asked
    assert (found.platforms["amd64"].base == BASE) == ("base anew" not in asked)


def test_a_new_base_is_of_today_and_so_is_its_lock(resolver: Resolver) -> None:
    old = resolver()
    resolver.later(days=3)
    resolver.base_lock = replace(BASE, digest="sha256:" + "9" * 64)
    found = resolver(old=old, upgrade=Upgrade(names=frozenset({"base"})))
    assert found.epoch == old.epoch + 3 * 86_400


@pytest.mark.parametrize("upgrade", [NOTHING, ALL])
def test_no_lock_is_older_than_its_base(resolver: Resolver, upgrade: Upgrade) -> None:
    """What is younger in the base would come once more into a layer above it."""
    old = resolver()
    resolver.base_there = False
    resolver.base_lock = replace(
        BASE, digest="sha256:" + "9" * 64, epoch=int(NOW.timestamp()) + 86_400
    )
    resolver.define(TOML.replace('["jupyterlab"]', '["jupyterlab"]\napt = ["tree"]'))
    assert resolver(old=old, upgrade=upgrade).epoch == resolver.base_lock.epoch


def test_a_base_of_no_known_time_makes_no_lock_older(resolver: Resolver) -> None:
    resolver.base_lock = replace(BASE, epoch=None)
    assert 0 <= NOW.timestamp() - resolver().epoch < 86_400


# -- what is not reproducible


def test_source_distributions_count_where_the_definition_is_not_reproducible(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []

    def python(requirements: Sequence[str], **options: Any) -> tuple[PythonPackage, ...]:
        told.append(options.pop("sources"))
        return resolver.python(requirements, **options)

    def uv(version: str | None, **options: object) -> PythonPackage:
        assert "sources" not in options  # a wheel, always
        return LOCK.uv

    monkeypatch.setattr(locking, "resolve_python", python)
    monkeypatch.setattr(locking, "resolve_uv", uv)
    kernel = '[images.low.kernels.k]\npython = ["pandas"]\n'
    plain = f'[images.low]\npython = ["jupyterlab"]\n{{}}{kernel}'
    resolver.define(plain.format(""))
    old = resolver()
    assert (old.reproducible, old.run, told) == (True, (), [False, False])
    told.clear()
    resolver.define(plain.format('reproducible = false\nrun = ["true"]\n'))
    found = resolver(old=old)
    assert (found.reproducible, found.run, told) == (False, ("true",), [True, True])
    assert resolver.written() == found


def test_what_is_below_keeps_the_files_that_it_has_in_its_own_image(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the layers are the same; the wheels of what is above are not enough."""
    more = "sha256:" + "9" * 64

    def python(
        requirements: Sequence[str], *, sources: bool, **options: Any
    ) -> tuple[PythonPackage, ...]:
        found = resolver.python(requirements, **options)
        if "polars" not in requirements:
            return found
        assert sources
        return tuple(replace(p, hashes=(*p.hashes, more), source=True) for p in found)

    monkeypatch.setattr(locking, "resolve_python", python)
    resolver.define(f"{TOML}reproducible = false\n")
    found = {package.name: package for package in resolver("high").python}
    assert {name for name, package in found.items() if package.source} == {"polars"}
    assert {name for name, package in found.items() if more in package.hashes} == {"polars"}


# -- layers and what is extended


def test_each_package_is_of_the_lowest_definition_that_needs_it(resolver: Resolver) -> None:
    assert layers(resolver("high")) == {
        "jupyterlab": 1, "tornado": 1, "python3": 1, "pandas": 2, "numpy": 2, "polars": 3, "git": 3,
    }  # fmt: skip
    assert resolver.layers == [[], [], ["git"]]


def test_a_definition_that_cannot_stand_alone_has_no_layer_of_its_own(resolver: Resolver) -> None:
    resolver.define(TOML.replace('["pandas"]', '["pandas", "conflict"]'))
    found = layers(resolver("high"))
    assert (found["jupyterlab"], found["pandas"], found["conflict"]) == (1, 3, 3)


def test_an_image_takes_versions_base_and_time_of_what_it_extends(resolver: Resolver) -> None:
    low = resolver("low")
    resolver.later(days=3)
    resolver.versions = NEW
    resolver.base_lock = replace(BASE, digest="sha256:" + "9" * 64)
    high = resolver("high")
    assert high.platforms["amd64"].base == low.platforms["amd64"].base
    assert high.epoch == low.epoch
    assert versions(high) == versions(low) | {
        "uv": "2", "pandas": "2", "numpy": "2", "polars": "1", "git": "2",
    }  # fmt: skip


def test_the_nearest_that_is_extended_holds(resolver: Resolver) -> None:
    resolver("low")
    resolver.versions = NEW
    resolver("mid", upgrade=ALL)
    resolver.versions = {}
    assert versions(resolver("high"))["jupyterlab"] == "2"


# -- other architectures


def test_another_architecture_keeps_the_versions_of_python_packages(resolver: Resolver) -> None:
    old = resolver()
    resolver.made.site = replace(resolver.made.site, facts=ARM)
    resolver.versions = NEW
    found = resolver(old=old)
    assert resolver.asked == ["base", "apt"]
    assert (found.python, found.uv, found.epoch) == (old.python, old.uv, old.epoch)
    assert found.platforms.keys() == {"arm64"}
    assert found.platforms["arm64"].apt[0].version == "2"
    assert resolver.written().platforms == {**old.platforms, **found.platforms}


def test_another_python_has_packages_of_its_own(resolver: Resolver) -> None:
    old = resolver()
    resolver.made.site = replace(resolver.made.site, facts=ARM)
    resolver.python_version = "3.14"
    resolver.versions = NEW
    found = resolver(old=old)
    assert versions(found) == dict.fromkeys(versions(old), "2")
    assert resolver.written().platforms.keys() == {"arm64"}
    assert found.epoch == old.epoch


def test_a_python_that_the_definition_refuses_is_an_error(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "resolve_interpreter", lambda *_, **more: None)
    resolver.define(TOML.replace("base =", 'requires-python = ">=3.14"\nbase ='))
    with pytest.raises(ResolveError, match=r"has Python 3\.13; low requires >=3\.14"):
        resolver()


def test_a_python_that_the_base_has_not_is_one_of_its_own_and_stays(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def resolve(wanted: str, uv: object, *, architecture: str, version: str | None) -> object:
        asked.append(version)
        return InterpreterLock(version=f"3.14.{len(asked)}", file="1/x", sha256="f" * 64)

    monkeypatch.setattr(locking, "resolve_interpreter", resolve)
    text = TOML.replace("base =", 'requires-python = ">=3.14"\nbase =')
    resolver.define(text)
    first = resolver()
    part = first.platforms["amd64"]
    assert (part.python_version, part.interpreter and part.interpreter.version) == (
        "3.14",
        "3.14.1",
    )
    resolver.define(text.replace("apt = [", 'apt = ["vim", ', 1))
    again = resolver(old=first).platforms["amd64"].interpreter
    assert (again == part.interpreter, asked) == (True, [None])
    moved = resolver(old=first, upgrade=Upgrade(everything=True)).platforms["amd64"].interpreter
    assert (moved and moved.version, asked) == ("3.14.2", [None, None])
