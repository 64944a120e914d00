"""The lock's text: stable, diffable, and strict when it is read."""

from __future__ import annotations

import dataclasses
import tomllib

import pytest

from jupbox.errors import LockError
from jupbox.lock import (
    SCHEMA,
    AptPackage,
    BaseLock,
    ImageLock,
    InterpreterLock,
    Lock,
    PlatformLock,
    PythonPackage,
    dump_lock,
    is_stale,
    load_lock,
)
from jupbox.project import ImageDefinition, Layer
from jupbox.tomltext import quote

A, B = (f"sha256:{digit * 64}" for digit in "ab")


def python(name: str, version: str = "1.0", marker: str | None = None) -> PythonPackage:
    return PythonPackage(name=name, version=version, marker=marker, hashes=(A, B))


def platform(*apt: str) -> PlatformLock:
    return PlatformLock(
        architecture="amd64",
        base=BaseLock(reference="debian:trixie-slim", kind="rootfs", digest=A),
        python_version="3.13",
        apt=tuple(AptPackage(name=name, version="1:2~rc-1+b1", architecture="all") for name in apt),
    )


IMAGE = ImageLock(
    name="minimal",
    definition="c" * 64,
    epoch=1_750_000_000,
    uv=python("uv"),
    python=(python("anyio"), python("six", "2.0", "platform_machine == 'x86_64'")),
    platforms={"amd64": platform("git", "libstdc++6")},
)
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
        dataclasses.replace(IMAGE, definition="d" * 64),
        dataclasses.replace(IMAGE, uv=python("uv", "2")),
        dataclasses.replace(IMAGE, python=IMAGE.python[:1]),
        dataclasses.replace(IMAGE, platforms={"amd64": platform("git")}),
    ],
)
def test_the_digest_follows_every_part(changed: ImageLock) -> None:
    assert changed.digest() != IMAGE.digest()


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
        ("schema = 1", "schema = 2", "jupbox.lock was written by a newer jupbox"),
        ("schema = 1", "", "jupbox.lock:1: schema is not"),
        ("schema = 1", 'schema = "1"', "jupbox.lock:3: schema is not"),
        ('"2.0"', '"2.0\\nRUN x"', "jupbox.lock:11: images.minimal.python[1].version is not"),
        ('"2.0"', '"2.0\\n"', "jupbox.lock:11: images.minimal.python[1].version is not"),
        ('name = "six"', 'name = "six --x"', "jupbox.lock:11: images.minimal.python[1].name"),
        ('name = "git"', 'name = "-y"', "jupbox.lock:18: images.minimal.platforms.amd64.apt[0]"),
        (f'hashes = ["{A}", "{B}"]', "hashes = []", "jupbox.lock:8: images.minimal.uv.hashes"),
        ("'x86_64'", "'x' # \\u0041", "jupbox.lock:11: images.minimal.python[1].marker is not"),
        ("platforms.amd64", "platforms.sparc", "jupbox.lock:14: images.minimal.platforms.sparc"),
        ("epoch", "epoche", "jupbox.lock:"),
        ("debian:trixie-slim", "debian\\nRUN", "jupbox.lock:15: images.minimal.platforms.amd64"),
        ("schema = 1", "<<<<<<< HEAD\nschema = 1", "jupbox.lock:3: this file holds a merge"),
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
