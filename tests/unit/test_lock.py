"""The lock's text: stable, diffable, and strict when it is read."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Any

import pytest

from jupbox.errors import LockError
from jupbox.lock import (
    RECIPE,
    SCHEMA,
    AptPackage,
    BaseLock,
    Change,
    FileLock,
    ImageLock,
    InterpreterLock,
    KernelLock,
    Lock,
    PlatformLock,
    PythonPackage,
    changes,
    differences,
    dump_lock,
    is_old,
    is_stale,
    load_lock,
)
from jupbox.project import ImageDefinition, Layer
from jupbox.repository import GitSource
from jupbox.tomltext import quote

A, B = (f"sha256:{digit * 64}" for digit in "ab")


def python(name: str, version: str = "1.0", marker: str | None = None) -> PythonPackage:
    return PythonPackage(name=name, version=version, marker=marker, hashes=(A, B))


def apt(name: str, version: str = "1:2~rc-1+b1", **changes: Any) -> AptPackage:
    given = {"architecture": "all", "sha256": "1" * 64} | changes
    return AptPackage(name=name, version=version, **given)


def platform(*names: str, **changes: Any) -> PlatformLock:
    given: dict[str, Any] = {
        "architecture": "amd64",
        "base": BaseLock(reference="debian:trixie-slim", kind="rootfs", digest=A),
        "python_version": "3.13",
        "apt": tuple(apt(name) for name in names),
    }
    return PlatformLock(**(given | changes))


IMAGE = ImageLock(
    name="minimal",
    definition="c" * 64,
    system="e" * 64,
    epoch=1_750_000_000,
    uv=python("uv"),
    python=(python("anyio"), python("six", "2.0", "platform_machine == 'x86_64'")),
    platforms={"amd64": platform("git", "libstdc++6")},
)
# every field says something
FULL = dataclasses.replace(
    IMAGE,
    recipe=RECIPE + 1,
    sources=(GitSource(url="https://host/repo", revision="main", commit="e" * 40),),
    env=(("OMP_NUM_THREADS", "8"),),
    settings=(("a:b", '{"c": 1}'),),
    files=(FileLock(target="/opt/a", sha256="f" * 64, mode="0755"),),
    run=("make -C /opt/x",),
    reproducible=False,
    python=(
        dataclasses.replace(python("anyio"), layer=2),
        dataclasses.replace(
            python("lab", marker="sys_platform == 'linux'"), index="lab", source=True
        ),
    ),
    kernels={"deep": KernelLock(display_name="Deep", python=(python("torch", "2+cpu"),))},
    platforms={
        "amd64": platform(
            base=BaseLock(
                reference="debian:trixie-slim", kind="rootfs", digest=A, epoch=1_750_000_000,
                snapshot="20261123T080000Z",
            ),
            snapshot="20261123T140000Z",
            base_packages=(apt("base-files", "13.8", architecture="amd64", sha256=""),),
            apt=(apt("git"), apt("r-base", layer=3)),
            environment=B,
            interpreter=InterpreterLock(version="3.12.8", file="1/x.tar.gz", sha256="f" * 64),
        ),
        "arm64": platform("git", architecture="arm64"),
    },
)  # fmt: skip
LOCK = Lock().with_image(IMAGE)
TEXT = dump_lock(LOCK)


def test_a_lock_survives_its_text() -> None:
    assert load_lock(TEXT, source="jupbox.lock") == LOCK
    assert dump_lock(load_lock(TEXT, source="jupbox.lock")) == TEXT


def test_an_interpreter_is_in_its_platforms_text_and_digest() -> None:
    own = InterpreterLock(version="3.12.8", file="20260101/x+y.tar.gz", sha256="f" * 64)
    with_own = dataclasses.replace(platform("git"), interpreter=own)
    image = dataclasses.replace(IMAGE, platforms={"amd64": with_own})
    text = dump_lock(Lock().with_image(image))
    assert load_lock(text, source="x").images["minimal"] == image
    assert (
        image.digest() != dataclasses.replace(IMAGE, platforms={"amd64": platform("git")}).digest()
    )
    for old, new in (("3.12.8", "3.12.8;x"), ("20260101/", "../"), ("f" * 64, "f" * 63)):
        with pytest.raises(LockError, match=r"platforms\.amd64\.interpreter"):
            load_lock(text.replace(old, new), source="x")


def test_all_that_a_lock_may_hold_survives_its_text() -> None:
    full = Lock().with_image(FULL)
    assert load_lock(dump_lock(full), source="jupbox.lock") == full


def test_every_field_of_a_lock_is_in_that_test() -> None:
    """Else one that the text forgets would go unseen."""
    amd64 = FULL.platforms["amd64"]
    parts = [FULL, amd64, amd64.base, *amd64.apt, *FULL.python, *FULL.kernels.values()]
    fields = [(part, field) for part in parts for field in dataclasses.fields(part)]
    every = {(type(part), field.name) for part, field in fields}
    said = {(type(p), f.name) for p, f in fields if getattr(p, f.name) not in (f.default, {})}
    assert every == said


def test_what_says_nothing_takes_no_place_in_the_text() -> None:
    for word in ("snapshot", "layer", "index", "environment", "base-packages"):
        assert word not in TEXT


def test_the_text_has_one_package_a_line() -> None:
    lines = TEXT.splitlines()
    for name in ("anyio", "six", "git", "libstdc++6", "uv"):
        assert sum(f'name = "{name}"' in line for line in lines) == 1
    assert tomllib.loads(TEXT)["schema"] == SCHEMA
    assert lines[0].startswith("# ")


def test_order_does_not_change_text_or_digest() -> None:
    shuffled = dataclasses.replace(
        IMAGE,
        python=tuple(
            dataclasses.replace(package, hashes=package.hashes[::-1])
            for package in reversed(IMAGE.python)
        ),
        platforms={"amd64": platform("libstdc++6", "git")},
    )
    assert shuffled.digest() == IMAGE.digest()
    other = dataclasses.replace(IMAGE, name="another")
    one, two = Lock().with_image(other), Lock().with_image(shuffled)
    assert dump_lock(one.with_image(IMAGE)) == dump_lock(two.with_image(other))


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(IMAGE, epoch=1),
        dataclasses.replace(IMAGE, recipe=RECIPE + 1),
        dataclasses.replace(IMAGE, system="d" * 64),
        dataclasses.replace(IMAGE, definition="d" * 64),
        dataclasses.replace(IMAGE, uv=python("uv", "2")),
        dataclasses.replace(IMAGE, python=IMAGE.python[:1]),
        dataclasses.replace(IMAGE, platforms={"amd64": platform("git")}),
        dataclasses.replace(
            IMAGE, platforms={"amd64": platform("git", "libstdc++6", snapshot="20261123T080000Z")}
        ),
    ],
)
def test_the_digest_follows_every_part(changed: ImageLock) -> None:
    assert changed.digest() != IMAGE.digest()


def test_the_digest_leaves_out_what_was_built_from_the_lock() -> None:
    """Else a lock would be another one for having been built."""
    recorded = IMAGE.with_recorded("amd64", B)
    assert recorded != IMAGE
    assert recorded.digest() == IMAGE.digest()
    assert recorded.unrecorded() == IMAGE


def test_a_recorded_digest_is_of_its_architecture_and_recipe() -> None:
    recorded = IMAGE.with_recorded("amd64", B)
    assert (IMAGE.recorded("amd64"), recorded.recorded("amd64")) == (None, B)
    assert recorded.recorded("arm64") is None
    assert dataclasses.replace(recorded, recipe=RECIPE - 1).recorded("amd64") is None


@pytest.mark.parametrize(
    ("lock", "expected"),
    [
        (IMAGE, 1),
        (dataclasses.replace(IMAGE, python=(), platforms={}), 1),
        (FULL, 3),
        (dataclasses.replace(FULL, platforms={}), 2),
    ],
)
def test_a_lock_has_as_many_layers_as_its_highest_package_says(
    lock: ImageLock, expected: int
) -> None:
    assert lock.layers == expected


# --- architectures ------------------------------------------------------------------------------

ARM = platform("git", architecture="arm64", environment=A)
BOTH = dataclasses.replace(IMAGE, platforms={**IMAGE.platforms, "arm64": ARM})


def test_a_lock_for_one_architecture_does_not_follow_the_others() -> None:
    assert BOTH.only("amd64") == IMAGE
    assert BOTH.only("amd64").digest() == IMAGE.digest()
    assert BOTH.digest() != IMAGE.digest()
    assert BOTH.only("riscv").platforms == {}


def test_a_first_lock_has_nothing_to_be_merged_with() -> None:
    assert IMAGE.merged(None) == IMAGE


def test_the_same_lock_keeps_what_is_recorded_for_others() -> None:
    assert IMAGE.merged(BOTH) == BOTH


def test_an_architectures_own_packages_are_no_other_lock_for_others() -> None:
    mine = dataclasses.replace(IMAGE, platforms={"amd64": platform("git")})
    merged = mine.merged(BOTH)
    assert merged.platforms == {"amd64": platform("git"), "arm64": ARM}


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(IMAGE, python=IMAGE.python[:1]),
        dataclasses.replace(IMAGE, uv=python("uv", "2")),
        dataclasses.replace(IMAGE, epoch=1),
        dataclasses.replace(IMAGE, recipe=RECIPE + 1),
        dataclasses.replace(IMAGE, kernels=FULL.kernels),
        dataclasses.replace(IMAGE, definition="d" * 64),
    ],
)
def test_another_lock_drops_what_is_recorded_for_others(changed: ImageLock) -> None:
    merged = changed.merged(BOTH)
    assert merged.platforms["arm64"] == dataclasses.replace(ARM, environment=None)
    assert merged.only("amd64") == changed


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(IMAGE, system="d" * 64),
        dataclasses.replace(IMAGE, platforms={"amd64": platform("git", python_version="3.14")}),
    ],
)
def test_other_debian_packages_or_another_python_leave_nothing_of_others(
    changed: ImageLock,
) -> None:
    assert changed.merged(BOTH).platforms.keys() == {"amd64"}


# --- what changed -------------------------------------------------------------------------------


def test_changes_are_sorted_and_say_whose_a_package_is() -> None:
    new = dataclasses.replace(
        IMAGE,
        uv=python("uv", "2"),
        python=(python("anyio", "1.1"), python("numpy")),
        kernels=FULL.kernels,
        platforms={
            "amd64": platform(
                base=BaseLock(reference="debian:trixie-slim", kind="rootfs", digest=B),
                apt=(apt("git", "3"),),
            )
        },
    )
    expected = (
        Change(package="anyio", before="1.0", after="1.1"),
        Change(package="base (apt, amd64)", before=A[:19], after=B[:19]),
        Change(package="git (apt, amd64)", before="1:2~rc-1+b1", after="3"),
        Change(package="libstdc++6 (apt, amd64)", before="1:2~rc-1+b1", after=None),
        Change(package="numpy", before=None, after="1.0"),
        Change(package="six", before="2.0", after=None),
        Change(package="torch (kernel deep)", before=None, after="2+cpu"),
        Change(package="uv (installer)", before="1.0", after="2"),
    )
    assert changes(IMAGE, new) == expected
    assert differences(IMAGE, new)[:2] == (
        "~ anyio 1.0 -> 1.1", f"~ base (apt, amd64) {A[:19]} -> {B[:19]}",
    )  # fmt: skip
    assert differences(IMAGE, new)[3:5] == (
        "- libstdc++6 (apt, amd64) 1:2~rc-1+b1", "+ numpy 1.0",
    )  # fmt: skip


def test_two_versions_by_architecture_are_one_change() -> None:
    split = dataclasses.replace(IMAGE, python=(python("six", "2.0"), python("six", "3.0")))
    expected = Change(package="six", before="2.0", after="2.0, 3.0")
    assert expected in changes(IMAGE, split)


def test_an_image_that_comes_or_goes_is_a_change_of_all_its_packages() -> None:
    assert {change.before for change in changes(None, IMAGE)} == {None}
    assert {change.after for change in changes(IMAGE, None)} == {None}
    assert len(changes(None, IMAGE)) == len(changes(IMAGE, None)) == 6
    assert changes(None, None) == ()


def test_times_and_recorded_digests_are_no_change_of_a_package() -> None:
    other = dataclasses.replace(IMAGE, epoch=1).with_recorded("amd64", B)
    assert changes(IMAGE, other) == ()


def test_an_images_digest_does_not_depend_on_the_others() -> None:
    lock = LOCK.with_image(dataclasses.replace(IMAGE, name="another"))
    assert load_lock(dump_lock(lock), source="x").images["minimal"].digest() == IMAGE.digest()


def test_with_image_replaces_and_leaves_the_old_lock_alone() -> None:
    newer = LOCK.with_image(dataclasses.replace(IMAGE, epoch=1))
    assert (newer.images["minimal"].epoch, LOCK.images["minimal"].epoch) == (1, IMAGE.epoch)


def test_a_lock_is_stale_when_the_definition_has_changed() -> None:
    definition = ImageDefinition(
        name="minimal",
        python=("six",),
        apt=(),
        base="debian:13",
        requires_python=None,
        shipped=True,
        layers=(Layer(name="minimal", python=("six",), apt=()),),
    )
    locked = dataclasses.replace(IMAGE, definition=definition.digest)
    assert not is_stale(locked, definition)
    assert is_stale(locked, dataclasses.replace(definition, base="debian:12"))


def test_what_is_empty_has_a_text_too() -> None:
    bare = Lock().with_image(dataclasses.replace(IMAGE, python=(), platforms={}))
    for lock in (Lock(), bare):
        assert load_lock(dump_lock(lock), source="x") == lock


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "a\tb\x00\x7f", "é\u2028😀", ""])
def test_a_string_is_quoted_on_one_line(text: str) -> None:
    assert "\n" not in quote(text)
    assert tomllib.loads(f"x = {quote(text)}")["x"] == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 2", "schema = 3", "jupbox.lock was written by a newer jupbox (schema 3"),
        ("schema = 2", "schema = 1", "jupbox.lock was written by an older jupbox (schema 1"),
        ("schema = 2", "", "jupbox.lock:1: schema is not"),
        ("schema = 2", 'schema = "2"', "jupbox.lock:3: schema is not"),
        (f'system = "{"e" * 64}"', 'system = "x"', "jupbox.lock:7: images.minimal.system is not"),
        (f"recipe = {RECIPE}", "recipe = 0", "jupbox.lock:8: images.minimal.recipe is not"),
        ("epoch = 1", "epoch = -1", "jupbox.lock:9: images.minimal.epoch is not"),
        (f'sha256 = "{"1" * 64}"', 'sha256 = ""', "jupbox.lock:20: images.minimal.platforms.amd64"),
        ('"all", sha', '"all", layer = 0, sha', "jupbox.lock:20: images.minimal.platforms.amd64"),
        ('"all", sha', '"all", layer = "1", sha', "jupbox.lock:20: images.minimal.platforms"),
        ("apt = [", 'snapshot = "now"\napt = [', "jupbox.lock:19: images.minimal.platforms.amd64."),
        ("apt = [", 'environment = "x"\napt = [', "jupbox.lock:19: images.minimal.platforms.amd64"),
        ('"2.0"', '"2.0\\nRUN x"', "jupbox.lock:13: images.minimal.python[1].version is not"),
        ('"2.0"', '"2.0\\n"', "jupbox.lock:13: images.minimal.python[1].version is not"),
        ('name = "six"', 'name = "six --x"', "jupbox.lock:13: images.minimal.python[1].name"),
        ('name = "git"', 'name = "-y"', "jupbox.lock:20: images.minimal.platforms.amd64.apt[0]"),
        (f'hashes = ["{A}", "{B}"]', "hashes = []", "jupbox.lock:10: images.minimal.uv.hashes"),
        ("'x86_64'", "'x' # \\u0041", "jupbox.lock:13: images.minimal.python[1].marker is not"),
        ("platforms.amd64", "platforms.sparc", "jupbox.lock:16: images.minimal.platforms.sparc"),
        ("epoch", "epoche", "jupbox.lock:"),
        ("debian:trixie-slim", "debian\\nRUN", "jupbox.lock:17: images.minimal.platforms.amd64"),
        ("schema = 2", "<<<<<<< HEAD\nschema = 2", "jupbox.lock:3: this file holds a merge"),
        ("]\n", "", "jupbox.lock:"),
    ],
)
def test_a_damaged_or_newer_lock_is_refused(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(LockError) as caught:
        load_lock(TEXT.replace(old, new, 1), source="jupbox.lock")
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("schema = 1\n", True),
        (TEXT.replace("schema = 2", "schema = 1"), True),
        (TEXT, False),
        ("schema = 3\n", False),
        ('schema = "1"\n', False),
        ("images = {}\n", False),
        ("<<<<<<< HEAD\nschema = 1\n", False),
        ("", False),
    ],
)
def test_only_a_whole_lock_of_an_older_format_is_an_old_one(text: str, expected: bool) -> None:
    assert is_old(text) is expected
