"""Definitions that say `reproducible = false`: source distributions, and commands of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupbox import render
from jupbox.errors import ConfigError, LockError, ResolveError
from jupbox.host import resolve as resolving
from jupbox.host.resolve import resolve_python
from jupbox.lock import ImageLock, KernelLock, Lock, dump_lock, load_lock
from jupbox.project import definition_label, image_tables, read_definition
from tests.unit.test_completing import Folder, parse
from tests.unit.test_foreign import OURS
from tests.unit.test_lock import IMAGE
from tests.unit.test_render import HASH, LAYERED, assert_golden, assert_whole

PLAIN = '[images.own]\nextends = "minimal"\n'
CHAIN = """
[images.base]
extends = "minimal"
reproducible = false
run = ["echo base", "echo twice"]
[images.mid]
extends = "base"
[images.own]
extends = "mid"
run = ["echo own", "echo twice"]
"""
COMMANDS = ("echo base", "echo twice", "echo own", "echo twice")


# --- the definition ---------------------------------------------------------------------------


def test_commands_come_along_the_chain_in_their_order_and_twice_where_written_twice() -> None:
    image = parse(CHAIN).image("own")
    assert (image.run, image.reproducible) == (COMMANDS, False)


def test_what_extends_such_an_image_is_one_and_what_is_below_is_not() -> None:
    text = f"[images.low]\nextends = 'minimal'\n{CHAIN.replace('minimal', 'low')}"
    images = parse(text).images
    assert {name: images[name].reproducible for name in ("low", "base", "mid", "own")} == {
        "low": True, "base": False, "mid": False, "own": False,
    }  # fmt: skip


def test_another_repositorys_commands_make_an_image_irreproducible() -> None:
    theirs = '[images.datasci]\nextends = "minimal"\nreproducible = false\nrun = ["x"]\n'
    image = parse(OURS, Folder(theirs=theirs)).image("datasci")
    assert (image.run, image.reproducible) == (("x",), False)


@pytest.mark.parametrize(
    "text",
    [
        f'{PLAIN}run = ["true"]',
        f'{PLAIN}reproducible = true\nrun = ["true"]',
        # what extends it cannot say it for it
        f'{PLAIN}run = ["true"]\n[images.more]\nextends = "own"\nreproducible = false',
    ],
)
def test_commands_of_a_reproducible_image_are_an_error_that_says_what_it_costs(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    line = text.splitlines().index('run = ["true"]') + 1
    assert caught.value.message.startswith(f"jupbox.toml:{line}: images.own.run may give other")
    assert "reproducible = false" in caught.value.remedy
    assert "no digest is recorded" in caught.value.remedy


def test_an_image_cannot_be_reproducible_on_one_that_is_not() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f'{CHAIN}[images.more]\nextends = "own"\nreproducible = true')
    assert caught.value.message == (
        "jupbox.toml:13: images.more.reproducible is true, and base, which it extends, is not "
        "reproducible."
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("reproducible = 1", "reproducible must be true or false, not 1"),
        ('run = "true"', 'run must be a list of shell commands, not "true"'),
        ('run = ["a\\nb"]', "must be a shell command on one line"),
        ('run = ["a\\u2028b"]', "must be a shell command on one line"),
        ('run = ["a\\tb"]', "must be a shell command on one line"),
        ('run = [" "]', "must be a shell command on one line"),
        ("run = [1]", "must be a shell command on one line, not 1"),
    ],
)
def test_bad_input_is_said_with_its_key(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"{PLAIN}{line}")
    assert caught.value.message.startswith("jupbox.toml:3: images.own.")
    assert message in caught.value.message
    assert caught.value.remedy.startswith("For example: ")


def test_each_belongs_to_the_digest_and_only_where_it_is_used() -> None:
    def digest(text: str) -> str:
        return parse(PLAIN + text).image("own").digest

    said = "reproducible = false\n"
    assert digest("reproducible = true") == digest("run = []") == digest("")
    texts = ("", said, f'{said}run = ["a", "b"]', f'{said}run = ["b", "a"]')
    assert len({digest(text) for text in texts}) == 4


def test_neither_asks_apt_anew() -> None:
    plain, more = (
        parse(PLAIN + text).image("own") for text in ("", 'reproducible = false\nrun = ["a"]')
    )
    assert plain.system_digest == more.system_digest


def test_a_label_holds_both() -> None:
    image = parse(CHAIN).image("own")
    again = read_definition(definition_label(image))
    assert (again, again.digest) == (image, image.digest)
    plain = parse(PLAIN).image("own")
    assert image_tables(plain)["own"].keys().isdisjoint({"run", "reproducible"})


# --- the lock ---------------------------------------------------------------------------------

LOCKED = replace(IMAGE, run=COMMANDS, reproducible=False)


def test_a_lock_holds_the_commands_one_a_line_in_their_order() -> None:
    text = dump_lock(Lock().with_image(LOCKED))
    assert load_lock(text, source="x").images["minimal"] == LOCKED
    lines = text.splitlines()
    start = lines.index("run = [")
    assert lines[start + 1 : start + 5] == [f'    "{command}",' for command in COMMANDS]
    assert "reproducible = false" in lines


def test_a_lock_without_them_is_what_it_was() -> None:
    text = dump_lock(Lock().with_image(IMAGE))
    assert "reproducible" not in text
    assert "run" not in text


def test_both_belong_to_the_locks_digest() -> None:
    quiet = replace(IMAGE, reproducible=False)
    other = replace(LOCKED, run=COMMANDS[::-1])
    assert len({one.digest() for one in (IMAGE, quiet, LOCKED, other)}) == 4


def test_a_package_that_may_be_built_is_said_to_be_one_and_only_where_it_can_be() -> None:
    built = replace(IMAGE.python[0], source=True)
    for lock in (replace(LOCKED, python=(built,)), replace(IMAGE, python=(built,))):
        text = dump_lock(Lock().with_image(lock))
        assert "source = true" in text
        if lock.reproducible:
            with pytest.raises(LockError):
                load_lock(text, source="x")
        else:
            assert load_lock(text, source="x").images["minimal"] == lock


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("echo own", "echo\\nown"),
        ("echo own", "echo\\u0007own"),
        ("echo own", " "),
        ('"echo own"', "1"),
        ("reproducible = false\n", ""),
        ("reproducible = false\n", "reproducible = true\n"),
        ("reproducible = false\n", 'reproducible = "no"\n'),
    ],
)
def test_a_lock_is_checked_when_it_is_read(old: str, new: str) -> None:
    text = dump_lock(Lock().with_image(LOCKED))
    assert old in text
    with pytest.raises(LockError):
        load_lock(text.replace(old, new), source="jupbox.lock")


def test_a_digest_in_the_lock_of_such_an_image_counts_for_nothing() -> None:
    assert IMAGE.with_recorded("amd64", HASH).recorded("amd64") == HASH
    assert LOCKED.with_recorded("amd64", HASH).recorded("amd64") is None


# --- asking the index -------------------------------------------------------------------------


def asked(monkeypatch: pytest.MonkeyPatch, *, returncode: int = 0, **options: Any) -> list[str]:
    """What uv is told."""
    told: list[str] = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        told.extend(words)
        return subprocess.CompletedProcess(words, returncode, "", "error: no\n")

    monkeypatch.setattr(resolving.subprocess, "run", run)
    resolve_python(
        ["six"], python_version="3.13", uv=Path("uv"), environ={}, ca_bundle=None, cwd=None,
        **options,
    )  # fmt: skip
    return told


@pytest.mark.parametrize("sources", [False, True])
def test_wheels_alone_are_asked_for_first(monkeypatch: pytest.MonkeyPatch, sources: bool) -> None:
    words = asked(monkeypatch, sources=sources)
    assert words.count("--generate-hashes") == words.count("--only-binary") == 2


def test_the_error_says_what_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResolveError) as caught:
        asked(monkeypatch, returncode=1)
    assert "only wheels for Linux count" in caught.value.remedy
    with pytest.raises(ResolveError) as caught:
        asked(monkeypatch, returncode=1, sources=True)
    assert "wheels" not in caught.value.remedy
    assert "source distributions count, too" in caught.value.remedy


# --- the image --------------------------------------------------------------------------------

# whose own layer, but none below it, has source distributions
UNBOUND = replace(
    LAYERED,
    run=COMMANDS,
    reproducible=False,
    python=(*LAYERED.python[:-1], replace(LAYERED.python[-1], source=True)),
)


def context_of(lock: ImageLock) -> render.Context:
    return render.environment_context(lock, architecture="amd64", base="base:tag")


def test_the_dockerfile_of_such_an_image() -> None:
    assert_golden("run.Dockerfile", context_of(UNBOUND)["Dockerfile"].decode())


def test_the_commands_are_the_last_but_the_lock_and_have_all_that_they_need() -> None:
    context = context_of(UNBOUND)
    assert context["build/run/commands.txt"].decode().splitlines() == list(COMMANDS)
    assert_whole(context, "build/run", "run.sh")
    steps = context["Dockerfile"].decode().split("\nRUN ")
    assert "sh /build/run.sh 1767225600" in steps[-2]
    assert "network=none" not in steps[-2]
    assert "sh /build/finish.sh" in steps[-1]


def test_only_a_layer_that_has_some_is_built_from_sources_and_uv_never() -> None:
    text = context_of(replace(UNBOUND, run=()))["Dockerfile"].decode()
    lines = [line for line in text.splitlines() if "python.sh" in line or "kernel.sh" in line]
    assert [line.endswith(" 1767225600 sources") for line in lines] == [False, False, True, False]
    assert "run.sh" not in text
    assert b"--only-binary :all:" in context_of(UNBOUND)["build/tools/tools.sh"]


def test_the_steps_below_the_commands_are_those_of_an_image_without_any() -> None:
    """Else all of a large image would be built again for one command at its end."""
    plain, more = (context_of(replace(LAYERED, run=run, reproducible=not run))
                   for run in ((), COMMANDS))  # fmt: skip
    new = {"Dockerfile", "build/finish/image.lock"}
    assert all(more[name] == text for name, text in plain.items() if name not in new)
    end = plain["Dockerfile"].index(b"RUN --network=none --mount=type=bind,source=build/finish")
    assert more["Dockerfile"].startswith(plain["Dockerfile"][:end])


def test_without_them_the_context_has_no_trace_of_them() -> None:
    context = context_of(LAYERED)
    assert not [name for name in context if "build/run" in name]
    assert " sources\n" not in context["Dockerfile"].decode()
    assert "run.sh" not in context["Dockerfile"].decode()


def test_a_command_cannot_add_a_line() -> None:
    with pytest.raises(ValueError, match="line break"):
        context_of(replace(UNBOUND, run=("a\nb",)))


def test_a_kernel_alone_may_need_sources() -> None:
    python = tuple(replace(package, source=True) for package in IMAGE.python)
    lock: Mapping[str, KernelLock] = {"k": KernelLock(display_name="K", python=python)}
    text = context_of(replace(IMAGE, kernels=lock, reproducible=False))["Dockerfile"].decode()
    assert "sh /build/kernel.sh k 1750000000 sources\n" in text
