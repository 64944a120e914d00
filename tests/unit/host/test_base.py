"""Which of an engine's images is a base, and where a base comes from."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from jupbox.errors import BaseImageError
from jupbox.host import base as bases
from jupbox.host.base import Base
from jupbox.host.engine import Engine
from jupbox.host.facts import parse
from jupbox.host.inspected import Image
from jupbox.lock import BaseLock
from tests.unit.fakes import FakeMachine
from tests.unit.host.test_facts import answer

DIGEST = "sha256:" + "1" * 64
WHEN = "20261123T080000Z"
EPOCH = 1_767_225_600
LOCK = BaseLock(
    reference="debian:trixie-slim", kind="rootfs", digest=DIGEST, epoch=EPOCH, snapshot=WHEN
)
# what is built on a base inherits these
LABELS = {bases.LABEL: DIGEST, bases.REFERENCE_LABEL: LOCK.reference}


class FakeEngine:
    """Has images, and finds them by label or tag."""

    place = "workbox"

    def __init__(self, *images: Image) -> None:
        self._images = list(images)
        self.built: list[tuple[str, bytes]] = []

    def images(self, labels: Mapping[str, str]) -> list[Image]:
        return [i for i in self._images if labels.items() <= i.labels.items()]

    def image(self, reference: str) -> Image | None:
        return next((i for i in self._images if reference in i.tags), None)

    def pull(self, reference: str, *, timeout: float) -> bool:
        return False

    def build(self, context: Path, *, tag: str, labels: Mapping[str, str], **more: object) -> Image:
        self.built.append((tag, (context / "base.tar").read_bytes()))
        self._images.append(replace(BASE, id=tag, tags=(tag,), labels=labels))
        return self._images[-1]


def image(tag: str, *, layers: int) -> Image:
    return Image(
        id=tag, tags=(tag,), digests=(), layers=tuple(f"sha256:{n}" for n in range(layers)),
        labels=LABELS, architecture="amd64", size=1,
    )  # fmt: skip


def engine(*images: Image) -> Engine:
    return cast(Engine, FakeEngine(*images))


SEALED = image("jupbox-ada_workbox:seal-1", layers=7)
ENVIRONMENT = image("jupbox-env:minimal", layers=3)
BASE = image(f"jupbox-base:trixie-111111111111-{EPOCH}-{WHEN}", layers=1)


def test_the_locked_base_is_no_image_that_was_built_on_it() -> None:
    found = bases.find(engine(SEALED, ENVIRONMENT, BASE), LOCK)
    assert found == bases.Base(lock=LOCK, reference=BASE.tags[0])


def test_a_base_that_is_gone_is_not_replaced_by_what_was_built_on_it() -> None:
    assert bases.find(engine(SEALED, ENVIRONMENT), LOCK) is None


def test_an_image_of_ones_own_on_a_base_has_a_root_filesystem_of_its_own() -> None:
    mine = image("mine:latest", layers=2)
    found = bases.find(
        engine(mine), BaseLock(reference="mine:latest", kind="rootfs", digest=DIGEST)
    )
    assert found is None


def test_a_new_lock_finds_the_base_and_not_what_was_built_on_it() -> None:
    found = bases.resolve(engine(SEALED, ENVIRONMENT, BASE), LOCK.reference, **how(epoch=0))
    assert found == bases.Base(lock=LOCK, reference=BASE.tags[0])


@pytest.mark.parametrize("snapshot", [WHEN, None])
def test_a_bases_tag_says_of_what_time_it_is(snapshot: str | None) -> None:
    """Its labels cannot: what is built on it inherits them."""
    lock = replace(LOCK, snapshot=snapshot)
    tagged = replace(BASE, tags=("mine:1", bases._tag(lock, "trixie")))
    found = bases.resolve(engine(tagged), LOCK.reference, **how(epoch=0))
    assert found == bases.Base(lock=lock, reference=tagged.tags[1])


def test_a_base_that_does_not_say_its_time_is_none_for_a_new_lock(cache: Path) -> None:
    nameless = image("jupbox-base:trixie-111111111111", layers=1)
    with pytest.raises(BaseImageError, match="nothing is made here"):
        bases.resolve(engine(nameless), LOCK.reference, **how(epoch=0))


# --- bases that were made here before -----------------------------------------------------------

FACTS = parse(answer())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the bases that were made here; none can be made now."""

    def refuse(*_arguments: object, **_options: object) -> Base:
        raise BaseImageError("nothing is made here", remedy="none")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bases, "_bootstrap", refuse)
    return tmp_path / "cache" / "jupbox" / "bases"


def keep(folder: Path, content: bytes, *, age: float = 0, suite: str = "trixie") -> str:
    """Make a base that many seconds ago; its digest."""
    folder.mkdir(exist_ok=True)
    (folder / "base.tar").write_bytes(content)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    os.utime(folder / "base.tar", (time.time() - age,) * 2)
    bases._keep(folder / "base.tar", suite=suite, architecture="amd64", lock=lock_of(digest))
    return digest


def lock_of(digest: str) -> BaseLock:
    return replace(LOCK, digest=digest)


def how(**changes: Any) -> dict[str, Any]:
    return {
        "box": FakeMachine(),
        "box_facts": FACTS,
        "epoch": 0,
        "say": lambda what: None,
    } | changes


def how_locked(archive: str | None = None) -> dict[str, Any]:
    given = how(archive=archive)
    del given["epoch"]
    return given


def test_the_newest_few_bases_are_kept(cache: Path, tmp_path: Path) -> None:
    for age in (40, 10, 30, 20):
        keep(tmp_path / "work", b"%d" % age, age=age)
    assert sorted(path.read_bytes() for path in cache.iterdir()) == [b"10", b"20", b"30"]


def test_the_next_box_gets_the_very_base_that_is_locked(cache: Path, tmp_path: Path) -> None:
    wanted = keep(tmp_path / "work", b"wanted", age=90 * 86_400)
    keep(tmp_path / "work", b"newer")
    box = FakeEngine()
    found = bases.locked(cast(Engine, box), lock_of(wanted), **how_locked())
    assert found is not None
    assert found.lock == lock_of(wanted)
    assert [content for _, content in box.built] == [b"wanted"]


def test_a_new_lock_takes_what_was_made_this_week(cache: Path, tmp_path: Path) -> None:
    keep(tmp_path / "work", b"older", age=86_400)
    digest = keep(tmp_path / "work", b"newer", age=3_600)
    found = bases.resolve(engine(), LOCK.reference, **how(epoch=EPOCH + 86_400))
    assert found.lock == lock_of(digest)


def test_a_base_that_was_kept_without_an_archives_time_has_none(
    cache: Path, tmp_path: Path
) -> None:
    lock = replace(LOCK, snapshot=None)
    (tmp_path / "base.tar").write_bytes(b"base")
    kept = bases._keep(tmp_path / "base.tar", suite="trixie", architecture="amd64", lock=lock)
    assert bases._kept_lock(kept, LOCK.reference) == lock


def test_a_base_that_is_asked_for_anew_is_neither_the_engines_nor_a_kept_one(
    cache: Path, tmp_path: Path
) -> None:
    keep(tmp_path / "work", b"newer")
    with pytest.raises(BaseImageError, match="nothing is made here"):
        bases.resolve(engine(BASE), LOCK.reference, **how(anew=True))


@pytest.mark.parametrize(
    ("age", "suite", "architecture"),
    [(8 * 86_400, "trixie", "amd64"), (0, "bookworm", "amd64"), (0, "trixie", "arm64")],
)
def test_another_base_or_an_old_one_is_not_taken(
    cache: Path, tmp_path: Path, age: int, suite: str, architecture: str
) -> None:
    keep(tmp_path / "work", b"base", age=age, suite=suite)
    facts = replace(FACTS, architecture=architecture)
    with pytest.raises(BaseImageError, match="nothing is made here"):
        bases.resolve(engine(), LOCK.reference, **how(box_facts=facts))


# --- a locked base that the engine lacks --------------------------------------------------------


def made_with(monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
    """Whoever makes the base now gets these bytes."""
    made = Base(lock=lock_of(digest), reference="jupbox-base:new")
    monkeypatch.setattr(bases, "_bootstrap", lambda *words, **options: made)


def test_a_base_that_is_made_again_to_the_same_bytes_is_the_locked_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_with(monkeypatch, DIGEST)
    found = bases.locked(engine(), LOCK, **how_locked())
    assert found == Base(lock=LOCK, reference="jupbox-base:new")


def test_a_base_that_is_made_again_with_other_bytes_is_not_the_locked_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_with(monkeypatch, "sha256:" + "9" * 64)
    assert bases.locked(engine(), LOCK, **how_locked()) is None


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param(LOCK, id="cannot be made"),
        pytest.param(replace(LOCK, reference="mine:1"), id="one's own"),
        pytest.param(replace(LOCK, kind="registry"), id="no registry"),
    ],
)
def test_a_locked_base_that_cannot_be_had_is_none(cache: Path, lock: BaseLock) -> None:
    assert bases.locked(engine(), lock, **how_locked()) is None


@dataclass
class Maker:
    """Makes a base, of the locked bytes where its sources are the wanted ones."""

    wanted: str
    tried: list[str | None] = field(default_factory=list)

    def __call__(
        self, engine: object, made_of: bases._MadeOf, *, sources: str | None = None, **more: object
    ) -> Base:
        self.tried.append(sources)
        if sources is not None and self.wanted in sources:
            return Base(lock=LOCK, reference="jupbox-base:old")
        return Base(lock=lock_of("sha256:" + "9" * 64), reference="jupbox-base:new")


OLD = "http://old.example/archive"


@pytest.mark.parametrize(
    ("wanted", "tries"), [(WHEN, 2), ("20261123T160000Z", 3), ("20261124T000000Z", None)]
)
def test_a_base_whose_packages_left_the_mirror_is_made_from_an_archive_of_old_ones(
    cache: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, tries: int | None
) -> None:
    maker = Maker(wanted)
    monkeypatch.setattr(bases, "_bootstrap", maker)
    found = bases.locked(engine(), LOCK, **how_locked(OLD))
    assert (found is not None) == (tries is not None)
    assert len(maker.tried) == (tries or 3)
    assert maker.tried[0] is None
    assert all(f"{OLD}/debian/" in (sources or "") for sources in maker.tried[1:])


@pytest.mark.parametrize(("lock", "archive"), [(LOCK, None), (replace(LOCK, snapshot=None), OLD)])
def test_without_an_archive_or_a_time_only_the_mirror_is_tried(
    cache: Path, monkeypatch: pytest.MonkeyPatch, lock: BaseLock, archive: str | None
) -> None:
    maker = Maker(WHEN)
    monkeypatch.setattr(bases, "_bootstrap", maker)
    assert bases.locked(engine(), lock, **how_locked(archive)) is None
    assert maker.tried == [None]


def test_a_root_filesystem_of_no_known_time_is_not_made_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = Maker(WHEN)
    monkeypatch.setattr(bases, "_bootstrap", maker)
    assert bases.locked(engine(), replace(LOCK, epoch=None), **how_locked(OLD)) is None
    assert maker.tried == []


# --- what was made ------------------------------------------------------------------------------

SAID = f"""\
Date: Sat, 21 Nov 2026 20:11:12 UTC
Date: Mon, 23 Nov 2026 08:00:00 UTC
{"1" * 64}  /tmp/jupbox-base.x/base.tar
"""


@pytest.mark.parametrize(
    ("said", "wanted", "expected"),
    [
        pytest.param(SAID, None, LOCK, id="a new one"),
        pytest.param(
            SAID.splitlines()[-1], None, replace(LOCK, snapshot=None), id="no archive said a time"
        ),
        pytest.param(
            SAID, replace(LOCK, snapshot="20260101T000000Z"),
            replace(LOCK, snapshot="20260101T000000Z"), id="the wanted one, on another day",
        ),
        pytest.param(SAID, lock_of("sha256:" + "9" * 64), LOCK, id="another than the wanted one"),
    ],
)  # fmt: skip
def test_what_was_made_has_the_locks_words_where_it_is_what_was_wanted(
    said: str, wanted: BaseLock | None, expected: BaseLock
) -> None:
    made_of = bases._MadeOf(reference=LOCK.reference, suite="trixie", epoch=EPOCH, wanted=wanted)
    assert made_of.lock(said) == expected


# --- the digest of a root filesystem ----------------------------------------------------------


def archive(form: int, *, mode: int = 0o644, content: bytes = b"hello\n") -> bytes:
    """A tar of a folder, files with long names, a link and a hard link, in one of two formats."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        folder = tarfile.TarInfo("./usr")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name in ("./usr/short", f"./usr/{'long' * 30}/{'name' * 30}"):
            file = tarfile.TarInfo(name)
            file.size, file.mode, file.mtime = len(content), mode, 1_750_000_000
            tar.addfile(file, io.BytesIO(content))
        for kind, name in ((tarfile.SYMTYPE, "./usr/soft"), (tarfile.LNKTYPE, "./usr/hard")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, f"./usr/{'long' * 30}/{'name' * 30}"
            tar.addfile(link)
    return buffer.getvalue()


def digest(content: bytes) -> str:
    script = bases._SCRIPT.partition("<<'PERL'\n")[2].partition("\nPERL\n")[0]
    done = subprocess.run(["perl", "-e", script], input=content, capture_output=True, check=True)
    return done.stdout.decode()


@pytest.mark.real_process
def test_a_base_has_one_digest_in_whatever_kind_of_tar_it_was_written() -> None:
    gnu, pax = archive(tarfile.GNU_FORMAT), archive(tarfile.PAX_FORMAT)
    assert gnu != pax
    assert re.fullmatch(r"[0-9a-f]{64}", digest(gnu))
    assert digest(gnu) == digest(pax)
    assert digest(archive(tarfile.GNU_FORMAT, mode=0o755)) != digest(gnu)
    assert digest(archive(tarfile.GNU_FORMAT, content=b"world\n")) != digest(gnu)
