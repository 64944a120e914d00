"""Whether an image is what a lock says."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from jupbox import assets
from jupbox.contents import Entry, parse_contents
from jupbox.errors import DriftError
from jupbox.host.engine import Engine
from jupbox.lock import RECIPE, ImageLock
from jupbox.release import locking, verifying
from jupbox.site import Site
from tests.unit.fakes import FakeEngine, image
from tests.unit.release.bench import Bench, bench
from tests.unit.test_render import LOCK

ONE, TWO = (f"sha256:{digit * 64}" for digit in "78")
ENVIRONMENT = image("jupbox-env:datasci-1", tags=("jupbox-env:datasci-1", "jupbox-env:mine"))


def tag_of(digest: str) -> str:
    return f"jupbox-env:{digest.replace(':', '-')}"


# --- the digest that is known -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ((), None),
        (("jupbox-env:datasci-1",), None),
        (("jupbox-env:datasci-1", tag_of(ONE)), ONE),
        ((tag_of(ONE)[:-1],), None),
        ((f"{tag_of(ONE)}0",), None),
        ((f"mine/{tag_of(ONE)}",), None),
        ((tag_of(ONE).replace("env", "base"),), None),
    ],
)
def test_a_tag_says_what_an_image_was_found_to_be(
    tags: tuple[str, ...], expected: str | None
) -> None:
    assert verifying.known_digest(image("x", tags=tags)) == expected


def test_a_noted_digest_is_known() -> None:
    made = bench()
    made.engine.all_images.append(ENVIRONMENT)
    verifying.note_digest(made.site, ENVIRONMENT, ONE)
    assert verifying.known_digest(made.engine.all_images[0]) == ONE


# --- settling -----------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path) -> Bench:
    """A site whose engine has the image, and another one."""
    found = bench(root=tmp_path)
    found.engine.all_images += [ENVIRONMENT, image("jupbox-env:other")]
    return found


def settle(made: Bench, lock: ImageLock, notes: list[str], *, allow: bool = False) -> ImageLock:
    return verifying.settle(made.site, lock, ENVIRONMENT, ONE, allow_drift=allow, note=notes.append)


def known(made: Bench) -> str | None:
    return verifying.known_digest(made.engine.all_images[0])


def written(made: Bench) -> str | None:
    found = locking.read_lock(made.site).images.get(LOCK.name)
    return found.recorded("amd64") if found else None


def test_a_first_image_is_recorded(made: Bench) -> None:
    notes: list[str] = []
    assert settle(made, LOCK, notes).recorded("amd64") == ONE
    assert (known(made), written(made), notes) == (ONE, ONE, [])


def test_the_image_that_is_recorded_changes_no_lock(made: Bench) -> None:
    notes: list[str] = []
    lock = LOCK.with_recorded("amd64", ONE)
    assert settle(made, lock, notes) == lock
    assert (known(made), written(made), notes) == (ONE, None, [])


def test_another_image_is_an_error_and_goes(made: Bench) -> None:
    """With all its names: the next `up` must not find and take it."""
    with pytest.raises(DriftError) as caught:
        settle(made, LOCK.with_recorded("amd64", TWO), [])
    assert ONE[:19] in caught.value.message
    assert TWO[:19] in caught.value.message
    assert [left.tags for left in made.engine.all_images] == [("jupbox-env:other",)]
    assert written(made) is None


def test_another_image_that_is_allowed_is_noted_and_the_lock_stays(made: Bench) -> None:
    notes: list[str] = []
    lock = LOCK.with_recorded("amd64", TWO)
    assert settle(made, lock, notes, allow=True) == lock
    assert (known(made), written(made), len(notes)) == (ONE, None, 1)
    assert made.engine.all_images[0].tags[:2] == ENVIRONMENT.tags


def test_what_another_recipe_gave_is_neither_compared_nor_recorded(made: Bench) -> None:
    notes: list[str] = []
    lock = replace(LOCK, recipe=RECIPE - 1).with_recorded("amd64", TWO)
    assert settle(made, lock, notes) == lock
    assert (known(made), written(made), notes) == (ONE, None, [])


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("recorded", [None, TWO])
def test_of_an_image_that_is_not_reproducible_nothing_is_compared_nor_recorded(
    made: Bench, recorded: str | None, allow: bool
) -> None:
    notes: list[str] = []
    lock = replace(LOCK, reproducible=False)
    if recorded:  # edited by hand
        lock = lock.with_recorded("amd64", recorded)
    assert settle(made, lock, notes, allow=allow) == lock
    assert (known(made), written(made)) == (ONE, None)
    assert notes == [
        "datasci is not reproducible (`reproducible = false`), so it promises no bytes: its digest "
        "is not recorded."
    ]


def test_a_digest_of_another_architecture_is_not_compared(made: Bench) -> None:
    arm = replace(LOCK.platforms["amd64"], architecture="arm64", environment=TWO)
    lock = replace(LOCK, platforms={**LOCK.platforms, "arm64": arm})
    assert settle(made, lock, []).recorded("amd64") == ONE


# --- measuring ----------------------------------------------------------------------------------

LISTED = f"ENTRY 1767225600 f 644 0 0 ./a\0FILE {'1' * 64}  ./a\0".encode()


@dataclass
class Measurer(FakeEngine):
    """Gives the files of a measurement, and keeps what it was sent."""

    sent: list[tuple[str, Mapping[str, bytes]]] = field(default_factory=list)

    def build_files(self, context: Path, *, target: str, out: Path) -> None:
        self.sent.append((target, {path.name: path.read_bytes() for path in context.iterdir()}))
        out.mkdir()
        (out / "digest").write_text(f"{ONE}\n")
        if target == "contents":
            (out / "contents.gz").write_bytes(gzip.compress(LISTED))


def measurer() -> tuple[Site, Measurer]:
    engine = Measurer()
    return replace(bench().site, engine=cast(Engine, engine)), engine


def test_an_image_is_measured_with_the_tools_of_its_base() -> None:
    site, engine = measurer()
    assert verifying.measure(site, "jupbox-env:x", tools="base:tag") == ONE
    ((target, context),) = engine.sent
    assert target == "digest"
    assert b"FROM base:tag AS measure" in context["Dockerfile"]
    assert b"from=jupbox-env:x,target=/image" in context["Dockerfile"]


def test_its_content_comes_with_the_digest() -> None:
    site, engine = measurer()
    assert verifying.contents(site, "jupbox-env:x", tools="base:tag") == (
        ONE,
        {"/a": Entry(kind="file", mode="644", owner="0:0", time=1_767_225_600, sha256="1" * 64)},
    )
    assert [target for target, _ in engine.sent] == ["contents"]


# --- the script itself --------------------------------------------------------------------------

ODD = "two\nlines -> and  spaces"


def tree(root: Path) -> Path:
    (root / "image" / "folder").mkdir(parents=True)
    (root / "image" / "folder" / ODD).write_text("content")
    (root / "image" / "link").symlink_to("folder/to nowhere")
    for path in (root / "image").rglob("*"):
        os.utime(path, (1_767_225_600.25, 1_767_225_600.75), follow_symlinks=False)
    return root / "image"


def measured(image: Path) -> tuple[str, Mapping[str, Entry]]:
    out = image.parent / "out"
    script = assets.folder("images") / "build" / "digest.sh"
    subprocess.run(["sh", str(script), str(image), str(out)], check=True)
    return (out / "digest").read_text().strip(), parse_contents((out / "contents").read_bytes())


@pytest.mark.real_process
def test_what_the_script_writes_is_read_again(tmp_path: Path) -> None:
    digest, found = measured(tree(tmp_path))
    assert verifying._MEASURED.fullmatch(tag_of(digest))
    assert found.keys() == {"/folder", f"/folder/{ODD}", "/link"}
    assert (found["/link"].kind, found["/link"].target) == ("link", "folder/to nowhere")
    assert len(found[f"/folder/{ODD}"].sha256) == 64
    assert {entry.time for entry in found.values()} == {1_767_225_600}


@pytest.mark.real_process
def test_the_digest_is_the_same_elsewhere_and_follows_every_part(tmp_path: Path) -> None:
    first = measured(tree(tmp_path / "first"))[0]
    second = tree(tmp_path / "second")
    assert measured(second)[0] == first
    os.utime(second / "folder" / ODD, (0, 1_767_225_600.1))  # below a second, or when it was read
    assert measured(second)[0] == first
    seen = {first}
    for change in (
        lambda: (second / "folder").chmod(0o700),
        lambda: os.utime(second / "folder", (0, 0)),
        lambda: (second / "folder" / ODD).write_text("CONTENT"),
        (second / "link").unlink,
        (second / "empty").touch,
    ):
        change()
        seen.add(measured(second)[0])
    assert len(seen) == 6
