"""`verify`: which image is looked at, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from jupbox import labels as label
from jupbox.console import Console
from jupbox.contents import Entry
from jupbox.errors import DriftError, LockError, NotRunningError, UnknownNameError
from jupbox.host import stack as stacks
from jupbox.host.base import Base
from jupbox.host.engine import Engine
from jupbox.host.inspected import Image
from jupbox.lock import RECIPE, ImageLock, Lock, dump_lock
from jupbox.release import locking
from jupbox.site import Surroundings, load_project
from jupbox.workflows import verify as verb
from jupbox.workflows.found import Found
from tests.unit.fakes import container, image
from tests.unit.release.bench import MINE, NOW, STACK, Bench, bench
from tests.unit.test_render import LOCK

TOML = """\
[boxes.workbox]
host = "workbox"
image = "own"
[images.own]
extends = "minimal"
"""
ONE, TWO = (f"sha256:{digit * 64}" for digit in "78")


def entry(**changes: Any) -> Entry:
    given: dict[str, Any] = {"kind": "file", "mode": "644", "owner": "0:0", "time": 0}
    given["sha256"] = "1" * 64
    return Entry(**(given | changes))


@dataclass
class Verb:
    """The verb on a box without an engine.

    Attributes:
        digests: of images, by tag; else `ONE`.
        rebuilt: of what is built from nothing.
        listed: what images hold, by the beginning of a tag.
        built: what was built.
        tools: what hashed.
    """

    made: Bench
    lock: ImageLock
    digests: dict[str, str] = field(default_factory=dict)
    rebuilt: str = ONE
    listed: dict[str, Mapping[str, Entry]] = field(default_factory=dict)
    built: list[str] = field(default_factory=list)
    base: Base | None = None
    tools: list[str] = field(default_factory=list)

    def __call__(self, target: str | None = None, *, rebuild: bool = False) -> None:
        verb.verify(
            target,
            rebuild=rebuild,
            on=None,
            wait=False,
            around=self.made.site.around,
            console=Console(),
        )

    def write(self, lock: ImageLock | None = None) -> None:
        root = self.made.site.project.root
        assert root is not None
        (root / "jupbox.lock").write_text(dump_lock(Lock().with_image(lock or self.lock)))

    def add(self, *tags: str, **changes: Any) -> Image:
        labels = {label.KIND: "environment", label.LOCK: self.lock.digest()}
        made = image(tags[0] if tags else "jupbox-env:own-1", labels, **changes)
        self.made.engine.all_images.append(made)
        return made

    def run(self, layers: tuple[str, ...] = ("sha256:layer", "sha256:own")) -> None:
        """Have a container run on an image of its own, whose lock the environment has in it."""
        sealed = image("sealed", layers=layers)
        self.made.engine.all_images.append(sealed)
        labels = {**MINE, label.LOCK: self.lock.digest(), label.IMAGE: "own"}
        self.made.engine.all_containers.append(container("c", labels, image=sealed.id))
        text = dump_lock(Lock().with_image(self.lock.unrecorded())).encode()
        for one in self.made.engine.all_images:
            self.made.engine.in_images[one.id] = {"/opt/env/image.lock/image.lock": text}

    # -- what stands behind it

    def look(self, project: object, box: object, around: object) -> Found:
        state = stacks.observe(cast(Engine, self.made.engine), STACK)
        return Found(site=self.made.site, state=state)

    def measure(self, site: object, tag: str, *, tools: str) -> str:
        self.tools.append(tools)
        return self.rebuilt if ":rebuilt-" in tag else self.digests.get(tag, ONE)

    def contents(self, site: object, tag: str, *, tools: str) -> tuple[str, Mapping[str, Entry]]:
        return "", self.listed["rebuilt" if ":rebuilt-" in tag else "first"]

    def build_image(
        self, site: object, definition: object, lock: object, base: object, stage: object, *,
        anew: str,
    ) -> Image:  # fmt: skip
        self.built.append("from nothing")
        return self.add(anew)


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verb:
    """A box whose lock records `ONE`; the image is not there yet."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "jupbox.toml").write_text(TOML)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    around = Surroundings(cwd=root, home=tmp_path, environ={}, now=lambda: NOW)
    project = load_project(around)
    site = bench(root=root)
    site.site = replace(site.site, project=project, around=around, box=project.box("workbox"))
    lock = replace(LOCK, name="own", definition=project.image("own").digest)
    lock = lock.with_recorded("amd64", ONE)
    made = Verb(site, lock, base=Base(lock=LOCK.platforms["amd64"].base, reference="base:tag"))
    made.write()
    monkeypatch.setattr(verb, "look", made.look)
    monkeypatch.setattr(verb.verifying, "measure", made.measure)
    monkeypatch.setattr(verb.verifying, "contents", made.contents)
    monkeypatch.setattr(verb.building, "build_image", made.build_image)
    monkeypatch.setattr(verb.building, "base_of", lambda *_: made.base)
    return made


# --- an image -----------------------------------------------------------------------------------


def test_an_image_that_is_the_recorded_one_is_said_to_be(
    verify: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.add("jupbox-env:own-1")
    verify("own")
    assert "own on workbox is what the lock records, to the byte." in capsys.readouterr().out
    assert verify.tools == ["base:tag"]
    assert verb.verifying.known_digest(verify.made.engine.all_images[0]) == ONE
    assert verify.made.machine.held == []


def test_an_image_that_is_another_one_is_an_error_and_stays(verify: Verb) -> None:
    verify.add("jupbox-env:own-1")
    verify.digests["jupbox-env:own-1"] = TWO
    with pytest.raises(DriftError, match="not the image that the lock records") as caught:
        verify("own")
    assert TWO[:19] in caught.value.message
    assert "verify own --rebuild" in caught.value.remedy
    (left,) = verify.made.engine.all_images
    assert verb.verifying.known_digest(left) == TWO


def test_where_nothing_is_recorded_that_is_said_and_nothing_is_written(
    verify: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.write(verify.lock.unrecorded())
    before = locking.read_lock(verify.made.site)
    verify.add("jupbox-env:own-1")
    verify("own")
    said = capsys.readouterr()
    assert "records no digest" in said.err
    assert "to the byte" not in said.out
    assert locking.read_lock(verify.made.site) == before


def test_a_lock_of_another_recipe_is_named(
    verify: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.lock = replace(verify.lock, recipe=RECIPE - 1)
    verify.write()
    verify.add("jupbox-env:own-1")
    verify("own")
    assert "another version of jupbox's Dockerfiles" in capsys.readouterr().err


def test_without_its_base_the_image_looks_at_itself(verify: Verb) -> None:
    verify.base = None
    verify.add("jupbox-env:own-1")
    verify("own")
    assert verify.tools == ["jupbox-env:own-1"]


@pytest.mark.parametrize("architecture", [None, "arm64"])
def test_an_image_without_a_lock_cannot_be_compared(verify: Verb, architecture: str | None) -> None:
    parts = {"arm64": replace(LOCK.platforms["amd64"], architecture="arm64")}
    verify.write(replace(verify.lock, **({"platforms": parts} if architecture else {"name": "z"})))
    with pytest.raises(LockError, match="no lock for own on amd64"):
        verify("own")


def test_an_image_that_the_box_has_not_is_an_error(verify: Verb) -> None:
    with pytest.raises(UnknownNameError, match="no image of the lock of own") as caught:
        verify("own")
    assert "--rebuild" in caught.value.remedy
    assert verify.built == []


# --- from nothing -------------------------------------------------------------------------------


def test_a_build_from_nothing_that_gives_the_same_leaves_nothing_behind(
    verify: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    there = verify.add("jupbox-env:own-1")
    verify("own", rebuild=True)
    assert "A build from nothing gives the same, to the byte." in capsys.readouterr().out
    assert [left.id for left in verify.made.engine.all_images] == [there.id]


@pytest.mark.parametrize(("count", "shown"), [(2, 2), (45, 40)])
def test_what_differs_is_listed_and_an_error(
    verify: Verb, capsys: pytest.CaptureFixture[str], count: int, shown: int
) -> None:
    there = verify.add("jupbox-env:own-1")
    verify.rebuilt = TWO
    paths = [f"/p{number:02}" for number in range(count)]
    verify.listed = {
        "first": {path: entry() for path in paths} | {"/same": entry()},
        "rebuilt": {path: entry(mode="600") for path in paths} | {"/same": entry()},
    }
    with pytest.raises(DriftError, match=f"^{count} paths of own differ"):
        verify("own", rebuild=True)
    said = capsys.readouterr().err
    assert said.count(": mode 644, 600") == shown
    assert ("and 5 more" in said) == (count > shown)
    assert [left.id for left in verify.made.engine.all_images] == [there.id]


def test_without_an_image_a_build_from_nothing_is_compared_with_the_record(
    verify: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verify("own", rebuild=True)
    assert verify.built == ["from nothing"]
    assert "is what the lock records, to the byte" in capsys.readouterr().out
    verify.rebuilt = TWO
    with pytest.raises(DriftError, match="not the image that the lock records"):
        verify("own", rebuild=True)
    assert verify.made.engine.all_images == []


def test_an_image_that_is_another_one_is_an_error_even_if_a_build_gives_it_again(
    verify: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.add("jupbox-env:own-1")
    verify.digests["jupbox-env:own-1"] = verify.rebuilt = TWO
    with pytest.raises(DriftError, match="not the image that the lock records"):
        verify("own", rebuild=True)
    assert "A build from nothing gives the same" in capsys.readouterr().out


def test_of_an_image_that_is_another_one_a_build_from_nothing_says_in_what(
    verify: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.add("jupbox-env:own-1")
    verify.digests["jupbox-env:own-1"] = TWO
    verify.listed = {"first": {"/a": entry()}, "rebuilt": {"/a": entry(sha256="2" * 64)}}
    with pytest.raises(DriftError, match=r"^1 paths of own differ"):
        verify("own", rebuild=True)
    assert "  /a: content\n" in capsys.readouterr().err


def test_a_build_from_nothing_without_the_base_is_an_error_that_leaves_nothing(
    verify: Verb,
) -> None:
    there = verify.add("jupbox-env:own-1")
    verify.base = None
    with pytest.raises(LockError, match="out of reach"):
        verify("own", rebuild=True)
    assert [left.id for left in verify.made.engine.all_images] == [there.id]
    assert verify.made.machine.held == []


# --- what is not reproducible ---------------------------------------------------------------------


@pytest.fixture
def loose(verify: Verb) -> Verb:
    """The same box with a definition that promises no bytes."""
    root = verify.made.site.project.root
    assert root is not None
    (root / "jupbox.toml").write_text(f"{TOML}reproducible = false\n")
    project = load_project(verify.made.site.around)
    verify.made.site = replace(verify.made.site, project=project)
    digest = project.image("own").digest
    verify.lock = replace(verify.lock.unrecorded(), definition=digest, reproducible=False)
    verify.write()
    return verify


def test_the_digest_of_what_is_not_reproducible_is_shown_and_that_it_promises_nothing(
    loose: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    loose.add("jupbox-env:own-1")
    loose("own")
    said = capsys.readouterr()
    assert ONE in said.out + said.err
    assert "own is not reproducible (`reproducible = false`)" in said.err
    assert "to the byte" not in said.out + said.err
    assert "records no digest" not in said.err


def test_what_differs_in_what_is_not_reproducible_is_listed_and_no_error(
    loose: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    there = loose.add("jupbox-env:own-1")
    loose.rebuilt = TWO
    loose.listed = {"first": {"/a": entry()}, "rebuilt": {"/a": entry(mode="600")}}
    loose("own", rebuild=True)
    said = capsys.readouterr()
    assert "  /a: mode 644, 600\n" in said.out + said.err
    assert "1 paths of own differ from a build from nothing, as its definition lets" in said.out
    assert [left.id for left in loose.made.engine.all_images] == [there.id]


def test_a_build_of_it_from_nothing_alone_is_compared_with_nothing(
    loose: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    loose.rebuilt = TWO
    loose("own", rebuild=True)
    said = capsys.readouterr()
    assert TWO in said.out + said.err
    assert "nothing to compare with" in said.err
    assert loose.made.engine.all_images == []


# --- a box --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [None, "workbox"])
def test_a_boxs_image_is_compared_with_what_the_lock_file_records(
    verify: Verb, target: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.add("jupbox-env:own-1")
    verify.run()
    verify(target)
    assert "is what the lock records" in capsys.readouterr().out
    verify.write(verify.lock.unrecorded().with_recorded("amd64", TWO))
    with pytest.raises(DriftError, match="not the image that the lock records"):
        verify(target)


def test_a_box_that_runs_another_lock_than_the_files_has_nothing_to_compare_with(
    verify: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.add("jupbox-env:own-1")
    verify.run()
    verify.write(replace(verify.lock, epoch=1).with_recorded("amd64", TWO))
    verify()
    assert "records no digest" in capsys.readouterr().err


def test_a_box_without_a_container_is_not_running(verify: Verb) -> None:
    with pytest.raises(NotRunningError):
        verify()


def test_a_box_whose_environment_is_gone_cannot_be_measured(verify: Verb) -> None:
    verify.run()
    with pytest.raises(UnknownNameError, match="not there any more"):
        verify()


def test_a_container_on_other_layers_is_not_what_its_label_says(verify: Verb) -> None:
    verify.add("jupbox-env:own-1")
    verify.run(("sha256:other", "sha256:own"))
    with pytest.raises(DriftError, match="not built on the image of its lock"):
        verify()
