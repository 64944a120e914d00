"""`lock`: what is resolved, what moves, and how changes are shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from jupbox.console import Console
from jupbox.errors import LockError, UnknownNameError
from jupbox.lock import RECIPE, AptPackage, ImageLock, KernelLock, Lock, dump_lock, load_lock
from jupbox.project import Box, ImageDefinition
from jupbox.release.locking import NOTHING, Upgrade
from jupbox.site import Site, Surroundings, load_project
from jupbox.workflows import lock as verb
from tests.unit.release.bench import NOW, bench
from tests.unit.test_render import LOCK

TOML = """\
[boxes.workbox]
image = "own"
[images.own]
extends = "minimal"
python = ["numpy"]
[images.more]
extends = "minimal"
python = ["pandas"]
[images.unused]
extends = "minimal"
"""


@dataclass
class Verb:
    """The verb in a project, with nothing behind it; what it resolves comes out as `answer`."""

    root: Path
    answer: ImageLock = LOCK
    boxes: list[str] = field(default_factory=list)
    resolved: list[tuple[str, ImageLock | None, Upgrade]] = field(default_factory=list)

    def __call__(
        self, *names: str, upgrade: bool = False, diff: str | None = None, on: str | None = None
    ) -> None:
        verb.lock(
            list(names), upgrade=upgrade, diff=diff, around=self.around, console=Console(), on=on
        )

    @property
    def around(self) -> Surroundings:
        return Surroundings(cwd=self.root, home=self.root, environ={}, now=lambda: NOW)

    def locked(self, name: str, **changes: Any) -> ImageLock:
        """A lock of the definition as it is now, written beside the others."""
        project = load_project(self.around)
        lock = replace(LOCK, name=name, definition=project.image(name).digest, **changes)
        self.path.write_text(dump_lock(self.file.with_image(lock)))
        return self.file.images[name]

    @property
    def path(self) -> Path:
        return self.root / "jupbox.lock"

    @property
    def file(self) -> Lock:
        return load_lock(self.path.read_text(), source="x") if self.path.exists() else Lock()

    @property
    def asked(self) -> list[str]:
        return [name for name, _, _ in self.resolved]

    # -- what stands behind it

    def connect(self, project: object, box: Box, around: object) -> Site:
        self.boxes.append(box.name)
        return bench(root=self.root).site

    def resolve(
        self, site: object, definition: ImageDefinition, *, stage: object, old: ImageLock | None,
        upgrade: Upgrade,
    ) -> ImageLock:  # fmt: skip
        self.resolved.append((definition.name, old, upgrade))
        return replace(self.answer, name=definition.name)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verb:
    made = Verb(tmp_path / "project")
    made.root.mkdir()
    (made.root / "jupbox.toml").write_text(TOML)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(verb, "connect", made.connect)
    monkeypatch.setattr(verb.locking, "resolve_lock", made.resolve)
    return made


# --- which images -------------------------------------------------------------------------------


def test_all_images_that_boxes_use_are_locked(lock: Verb) -> None:
    (lock.root / "jupbox.toml").write_text(f'[boxes.other]\nimage = "more"\n{TOML}')
    lock(on="workbox")
    assert (lock.asked, lock.boxes) == (["more", "own"], ["workbox"])


def test_the_named_images_are_locked_in_their_order(lock: Verb) -> None:
    lock("unused", "more")
    assert lock.resolved == [("unused", None, NOTHING), ("more", None, NOTHING)]


def test_a_lock_that_holds_connects_to_no_box(
    lock: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    lock.locked("own")
    lock()
    assert (lock.asked, lock.boxes) == ([], [])
    assert "own: the lock is as its definition wants it." in capsys.readouterr().out


def test_only_what_does_not_hold_is_resolved_from_what_was(lock: Verb) -> None:
    lock.locked("more")
    stale = lock.locked("own")
    (lock.root / "jupbox.toml").write_text(TOML.replace("numpy", "scipy"))
    lock("own", "more")
    assert lock.resolved == [("own", stale, NOTHING)]


def test_a_lock_of_another_recipe_holds_no_longer(lock: Verb) -> None:
    """`verify` says that this verb brings it up."""
    lock.locked("own", recipe=RECIPE - 1)
    lock()
    assert lock.asked == ["own"]


def test_a_named_box_is_asked_even_where_the_lock_holds(lock: Verb) -> None:
    """Its architecture may be missing."""
    lock.locked("own")
    lock(on="workbox")
    assert lock.asked == ["own"]


def test_an_unknown_image_is_an_error_before_any_box_is_asked(lock: Verb) -> None:
    with pytest.raises(UnknownNameError):
        lock("owm")
    assert lock.boxes == []


# --- what moves ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "images", "moving"),
    [
        ((), ["own"], Upgrade(everything=True)),
        (("more",), ["more"], Upgrade(everything=True)),
        (("jupyterlab",), ["own"], Upgrade(names=frozenset({"jupyterlab"}))),
        (("own", "git", "apt"), ["own"], Upgrade(names=frozenset({"git", "apt"}))),
        (("more", "base"), ["more"], Upgrade(names=frozenset({"base"}))),
        (("torch",), ["own"], Upgrade(names=frozenset({"torch"}))),
    ],
)
def test_with_upgrade_a_name_is_an_image_or_what_shall_move(
    lock: Verb, names: tuple[str, ...], images: list[str], moving: Upgrade
) -> None:
    kernel = KernelLock(display_name="Deep", python=(replace(LOCK.uv, name="torch"),))
    old = lock.locked("own", kernels={"deep": kernel})
    lock(*names, upgrade=True)
    assert lock.asked == images
    assert [upgrade for _, _, upgrade in lock.resolved] == [moving]
    assert [before for name, before, _ in lock.resolved if name == "own"] in ([old], [])


@pytest.mark.parametrize("name", ["jupyterlap", "more-or-less", "kernel"])
def test_what_is_neither_an_image_nor_a_package_is_an_error(lock: Verb, name: str) -> None:
    lock.locked("own")
    with pytest.raises(UnknownNameError, match="neither an image nor a package") as caught:
        lock("own", name, upgrade=True)
    assert lock.boxes == []
    if name == "jupyterlap":
        assert "jupyterlab" in caught.value.remedy


# --- what changed -------------------------------------------------------------------------------


def test_the_changes_are_counted_and_listed(lock: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    old = lock.locked("own")
    (one, two) = old.python
    lock.answer = replace(old, python=(replace(one, version="9"), replace(two, name="red")))
    lock(upgrade=True)
    said = capsys.readouterr()
    assert "own: 4 packages locked, 3 of them changed." in said.out
    rows = [line.split() for line in said.err.splitlines() if line.startswith("  ")]
    assert rows == [
        ["package", "from", "to"],
        [one.name, one.version, "9"], [two.name, two.version, "-"], ["red", "-", two.version],
    ]  # fmt: skip


def test_a_first_lock_lists_nothing_and_one_without_changes_says_so(
    lock: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    lock()
    assert "own: 4 packages locked.\n" in capsys.readouterr().out
    lock.answer = lock.locked("own")
    lock(upgrade=True)
    assert "own: 4 packages locked, none changed.\n" in capsys.readouterr().out


def test_another_architectures_packages_are_no_change(
    lock: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    arm = replace(LOCK.platforms["amd64"], architecture="arm64")
    old = lock.locked("own", platforms={**LOCK.platforms, "arm64": arm})
    lock.answer = old.only("amd64")
    lock(upgrade=True)
    assert "none changed" in capsys.readouterr().out


def many(count: int) -> ImageLock:
    apt = tuple(
        AptPackage(name=f"p{number:02}", version="1", architecture="all", sha256="1" * 64)
        for number in range(count)
    )
    return replace(LOCK, platforms={"amd64": replace(LOCK.platforms["amd64"], apt=apt)})


@pytest.mark.parametrize(("count", "rest"), [(30, []), (34, ["and 4 more"])])
def test_a_long_table_ends_with_how_to_see_the_rest(
    lock: Verb, capsys: pytest.CaptureFixture[str], count: int, rest: list[str]
) -> None:
    lock.locked("own", platforms=many(0).platforms)
    lock.answer = many(count)
    lock(upgrade=True)
    rows = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    assert sum("(apt, amd64)" in row for row in rows) == 30
    assert [row.partition(":")[0].strip() for row in rows[31:]] == rest


# --- --diff -------------------------------------------------------------------------------------


@pytest.fixture
def then(lock: Verb, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str, str]]:
    """The lock of now is that of a revision."""
    shown: list[tuple[Path, str, str]] = []
    lock.locked("own", platforms=many(0).platforms)
    text = dump_lock(lock.file)

    def show(folder: Path, revision: str, path: str, *, environ: object) -> str:
        shown.append((folder, revision, path))
        return text

    monkeypatch.setattr(verb.git, "show", show)
    return shown


def test_the_difference_to_a_revision_is_whole_and_asks_no_box(
    lock: Verb, then: list[tuple[Path, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    lock.locked("own", platforms=many(34).platforms)
    before = lock.path.read_bytes()
    lock(diff="HEAD~3")
    said = capsys.readouterr().err
    assert "own: 34 changed since HEAD~3." in said
    assert sum("(apt, amd64)" in line for line in said.splitlines()) == 34
    assert then == [(lock.root, "HEAD~3", "jupbox.lock")]
    assert (lock.boxes, lock.asked, lock.path.read_bytes()) == ([], [], before)


def test_an_image_that_is_new_since_then_is_shown_and_named_ones_alone(
    lock: Verb, then: list[tuple[Path, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    lock.locked("more")
    lock(diff="HEAD")
    said = capsys.readouterr().err
    assert "own: nothing changed since HEAD." in said
    assert "more: 6 changed since HEAD." in said
    lock("own", diff="HEAD")
    assert "more" not in capsys.readouterr().err


def test_without_a_lock_there_is_no_difference_to_show(
    lock: Verb, then: list[tuple[Path, str, str]]
) -> None:
    lock.path.unlink()
    with pytest.raises(LockError, match=r"no jupbox\.lock"):
        lock(diff="HEAD")


def test_a_lock_of_then_that_cannot_be_read_is_named_with_its_revision(
    lock: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.locked("own")
    monkeypatch.setattr(verb.git, "show", lambda *_, **__: "schema = 1\n")
    with pytest.raises(LockError, match=r"jupbox\.lock of HEAD was written by an older"):
        lock(diff="HEAD")
