"""Build contexts and compose files, compared with golden files.

After a wanted change of a template: `JUPBOX_UPDATE_GOLDEN=1 pytest tests/unit/test_render.py`,
then look at the difference.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from jupbox import assets, render
from jupbox.lock import (
    AptPackage,
    BaseLock,
    ImageLock,
    InterpreterLock,
    KernelLock,
    Lock,
    PlatformLock,
    PythonPackage,
    dump_lock,
    load_lock,
)
from jupbox.render import Account, Mount, Stack

GOLDEN = Path(__file__).parent / "golden"
HASH = "sha256:" + "ab" * 32
INSTRUCTION = re.compile(r"^(FROM|RUN|ENV|COPY|WORKDIR|USER|EXPOSE|ENTRYPOINT|CMD)\b", re.MULTILINE)

LOCK = ImageLock(
    name="datasci",
    definition="cd" * 32,
    system="ef" * 32,
    epoch=1_767_225_600,
    uv=PythonPackage(name="uv", version="0.9.1", marker=None, hashes=(HASH,)),
    python=(
        PythonPackage(name="jupyterlab", version="4.5.0", marker=None, hashes=(HASH, HASH)),
        PythonPackage(
            name="greenlet",
            version="3.2.4",
            marker="platform_machine == 'x86_64'",
            hashes=(HASH,),
        ),
    ),
    platforms={
        "amd64": PlatformLock(
            architecture="amd64",
            base=BaseLock(reference="debian:trixie-slim", kind="registry", digest=HASH),
            python_version="3.13",
            apt=(
                AptPackage(
                    name="git",
                    version="1:2.47.3-0+deb13u1",
                    architecture="amd64",
                    sha256="1" * 64,
                ),
                AptPackage(
                    name="python3", version="3.13.5-1", architecture="amd64", sha256="2" * 64
                ),
            ),
        )
    },
)
ALICE = Account(name="alice", uid=1234, gid=1235, groups=(("lab", 3000), ("gpu", 44)))
STACK = Stack(
    name="jupbox-alice_workbox",
    hostname="workbox",
    account=ALICE,
    bind=("127.0.0.1",),
    port=8888,
    memory=None,
    shared_memory=8 << 30,
    files="/home/alice/notebooks",
)


def assert_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("JUPBOX_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def environment_context() -> render.Context:
    return render.environment_context(LOCK, architecture="amd64", base=f"debian@{HASH}")


def compose(stack: Stack = STACK, *, labels: Mapping[str, str] | None = None) -> str:
    return render.compose_text(
        stack,
        image=f"{stack.name}:seal-7",
        generation=7,
        labels={"dev.jupbox.kind": "server", "dev.jupbox.who": "alice@laptop"}
        if labels is None
        else labels,
        volume_labels={"dev.jupbox.kind": "volume"},
    )


# --- environment image ------------------------------------------------------------------------


# of a definition with two more below it in its `extends` chain, and a kernel
LAYERED = replace(
    LOCK,
    python=(*LOCK.python, replace(LOCK.uv, name="pandas", layer=2), replace(LOCK.uv, layer=3)),
    kernels={"deep": KernelLock(display_name="Deep", python=(LOCK.uv,))},
    platforms={
        "amd64": replace(
            LOCK.platforms["amd64"],
            apt=(
                *LOCK.platforms["amd64"].apt,
                AptPackage(
                    name="r-base", version="4.5", architecture="all", sha256="3" * 64, layer=3
                ),
            ),
        )
    },
)


def layered_context() -> render.Context:
    return render.environment_context(LAYERED, architecture="amd64", base="base:tag")


def test_the_environment_dockerfile() -> None:
    assert_golden("Dockerfile", environment_context()["Dockerfile"].decode())


def test_the_dockerfile_of_an_image_that_extends_others() -> None:
    assert_golden("layers.Dockerfile", layered_context()["Dockerfile"].decode())


def test_apt_packages_come_with_their_exact_versions_files_and_hashes() -> None:
    # no colon in a file's name, as apt writes it too
    git = f"git=1:2.47.3-0+deb13u1 git_1%3a2.47.3-0+deb13u1_amd64.deb {'1' * 64}\n"
    python = f"python3=3.13.5-1 python3_3.13.5-1_amd64.deb {'2' * 64}\n"
    context = environment_context()
    assert context["build/apt1/apt.txt"].decode() == git + python
    assert context["build/debs/1.txt"] == context["build/apt1/apt.txt"]


def test_each_layer_has_its_own_packages_and_no_step_without_any() -> None:
    context = layered_context()
    names = {
        step: re.findall(r"^([\w-]+)==?", context[step].decode(), re.MULTILINE)
        for step in sorted(context)
        if step.endswith(("apt.txt", "requirements.txt"))
    }
    assert names == {
        "build/apt1/apt.txt": ["git", "python3"],
        "build/apt3/apt.txt": ["r-base"],
        "build/kernels/deep/requirements.txt": ["uv"],
        "build/python1/requirements.txt": ["jupyterlab", "greenlet"],
        "build/python2/requirements.txt": ["pandas"],
        "build/python3/requirements.txt": ["uv"],
    }
    assert {name for name in context if name.startswith("build/debs/") and "." in name} == {
        "build/debs/1.txt", "build/debs/3.txt", "build/debs/archive.sh", "build/debs/fetch.sh",
        "build/debs/network.sh",
    }  # fmt: skip


def test_an_image_shares_the_steps_of_what_it_extends() -> None:
    """To the byte, up to the last one that both have: else each image would build all anew."""
    below, above = environment_context(), render.environment_context(
        LAYERED, architecture="amd64", base=f"debian@{HASH}"
    )  # fmt: skip
    shared = {"build/finish/image.lock", "Dockerfile"}
    assert all(above[name] == text for name, text in below.items() if name not in shared)
    end = below["Dockerfile"].index(b"RUN --network=none --mount=type=bind,source=build/finish")
    assert above["Dockerfile"].startswith(below["Dockerfile"][:end])


def test_a_first_layer_without_debian_packages_has_its_step_all_the_same() -> None:
    """A stage is named after it."""
    bare = replace(LOCK, platforms={"amd64": replace(LOCK.platforms["amd64"], apt=())})
    context = render.environment_context(bare, architecture="amd64", base="base:tag")
    assert context["build/apt1/apt.txt"] == context["build/debs/1.txt"] == b""


def test_requirements_name_versions_markers_and_all_hashes() -> None:
    assert_golden(
        "requirements.txt", environment_context()["build/python1/requirements.txt"].decode()
    )


def test_the_installer_is_locked_too() -> None:
    expected = f"uv==0.9.1 \\\n    --hash={HASH}\n"
    assert environment_context()["build/tools/uv.txt"].decode() == expected


def test_the_context_holds_every_script_that_the_dockerfile_runs() -> None:
    context = layered_context()
    text = context["Dockerfile"].decode()
    run = re.findall(r"source=build/(\S+),target=/build .*?sh /build/(\S+\.sh)", text, re.DOTALL)
    assert run == [
        ("debs", "fetch.sh"), ("apt1", "apt.sh"), ("tools", "tools.sh"), ("python1", "python.sh"),
        ("python2", "python.sh"), ("apt3", "apt.sh"), ("python3", "python.sh"),
        ("kernels/deep", "kernel.sh"), ("finish", "finish.sh"),
    ]  # fmt: skip
    for step, script in run:
        assert_whole(context, f"build/{step}", script)


def assert_whole(context: render.Context, folder: str, script: str) -> None:
    """What a step runs, and what that runs in turn, is in the folder that it sees."""
    text = context[f"{folder}/{script}"].decode()
    for other in re.findall(r"^(?:\.|sh) /build/(\S+\.sh)", text, re.MULTILINE):
        assert_whole(context, folder, other)


def test_only_what_gets_packages_has_a_network() -> None:
    """An installed package's script could else fetch what no lock has."""
    steps = re.split(r"^RUN ", layered_context()["Dockerfile"].decode(), flags=re.MULTILINE)[1:]
    closed = {
        name for step in steps if step.startswith("--network=none")
        for name in re.findall(r"sh /build/(\S+)", step)
    }  # fmt: skip
    assert closed == {"apt.sh", "finish.sh"}


def test_the_measuring_context_looks_at_the_image_and_installs_nothing() -> None:
    context = render.digest_context(image="jupbox-env:x", tools="base:tag")
    text = context["Dockerfile"].decode()
    assert context.keys() == {"Dockerfile", "digest.sh"}
    assert re.findall(r"^FROM (\S+) AS (\w+)", text, re.MULTILINE) == [
        ("base:tag", "measure"), ("measure", "packed"), ("scratch", "digest"),
        ("scratch", "contents"),
    ]  # fmt: skip
    assert "from=jupbox-env:x,source" not in text
    assert "from=jupbox-env:x,target=/image" in text
    assert all("--network=none" in line for line in text.splitlines() if line.startswith("RUN"))


@pytest.mark.parametrize("given", [{"image": "x\nRUN evil"}, {"tools": "x\rRUN evil"}])
def test_a_line_break_adds_no_instruction_to_the_measuring_context(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        render.digest_context(**({"image": "x", "tools": "y"} | given))


def test_another_python_package_changes_nothing_that_the_apt_step_sees() -> None:
    """Else BuildKit would install all Debian packages again."""
    other = replace(LOCK, python=LOCK.python[:1])
    assert other.python != LOCK.python

    def of_apt(lock: ImageLock) -> dict[str, bytes]:
        context = render.environment_context(lock, architecture="amd64", base="base:tag")
        return {
            name: text
            for name, text in context.items()
            if name.startswith(("build/apt1/", "build/debs/"))
        }

    assert of_apt(LOCK) == of_apt(other)


def test_the_lock_in_the_image_is_the_locks_own_text_whatever_is_recorded() -> None:
    recorded = LOCK.with_recorded("amd64", HASH)
    context = render.environment_context(recorded, architecture="amd64", base=f"debian@{HASH}")
    assert context == environment_context()
    text = context["build/finish/image.lock"].decode()
    assert text == dump_lock(Lock(images={"datasci": LOCK}))
    assert load_lock(text, source="image.lock").images["datasci"].digest() == LOCK.digest()


def test_the_environment_holds_nothing_of_jupbox_itself() -> None:
    assert not [name for name in environment_context() if name.startswith("server/")]


def test_a_cpython_of_its_own_comes_from_a_stage_of_its_own() -> None:
    own = InterpreterLock(version="3.12.8", file="20260101/x.tar.gz", sha256="f" * 64)
    platform = replace(LOCK.platforms["amd64"], interpreter=own)
    lock = replace(LOCK, platforms={"amd64": platform})
    context = render.environment_context(lock, architecture="amd64", base="base:tag")
    text = context["Dockerfile"].decode()
    key = "cpython-3.12.8-linux-x86_64-gnu"
    assert f"sh /build/interpreter.sh {key} {'f' * 64} {LOCK.epoch}\n" in text
    assert f"sh /build/place.sh {LOCK.epoch}\nENV PATH" in text
    scripts = ("interpreter.sh", "place.sh", "network.sh", "settle.sh")
    assert {f"build/interpreter/{name}" for name in scripts} <= context.keys()


def test_equal_locks_give_equal_contexts() -> None:
    assert environment_context() == environment_context()


def test_an_architecture_that_the_lock_has_not_is_refused() -> None:
    with pytest.raises(KeyError):
        render.environment_context(LOCK, architecture="arm64", base="debian")


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
def test_a_line_break_in_a_name_or_a_base_adds_no_instruction(newline: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        render.environment_context(LOCK, architecture="amd64", base=f"debian{newline}RUN evil")
    with pytest.raises(ValueError, match="line break"):
        render.environment_context(
            replace(LOCK, name=f"a{newline}RUN evil"), architecture="amd64", base="debian"
        )


# --- sealed image -----------------------------------------------------------------------------


def sealed_context(account: Account = ALICE) -> render.Context:
    return render.sealed_context(
        stack="jupbox-alice_workbox", environment="jupbox-env:datasci-0123", account=account
    )


def test_the_sealed_dockerfile() -> None:
    assert_golden("sealed.Dockerfile", sealed_context()["Dockerfile"].decode())


def test_the_users_groups_go_in_as_a_file() -> None:
    assert sealed_context()["build/user/groups.txt"] == b"lab:3000\ngpu:44\n"


def test_the_server_goes_in_as_it_stands_and_without_caches() -> None:
    found = {name.removeprefix("server/") for name in sealed_context() if name.startswith("server")}
    folder = assets.folder("images") / "server"
    source = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix in {".py", ".cnf", ".js", ".json"}
    }
    assert found == source
    assert "jupbox_server/__main__.py" in found
    assert "openssl.cnf" in found


def test_a_line_break_in_an_account_adds_no_instruction() -> None:
    for account in (
        replace(ALICE, name="alice\nRUN evil"),
        replace(ALICE, groups=(("lab\nroot", 3000),)),
    ):
        with pytest.raises(ValueError, match="line break"):
            sealed_context(account)


def test_the_servers_digest_is_over_names_and_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    before = render.server_digest()
    assert before == render.server_digest()
    files = dict(render.server_files())
    monkeypatch.setattr(render, "server_files", lambda: {**files, "server/new.py": b""})
    assert render.server_digest() != before


# --- compose ----------------------------------------------------------------------------------


HARDWARE = replace(
    STACK,
    cpus=1.5,
    gpus="all",
    mounts=(
        Mount(source="/data", target="/data", read_only=True),
        Mount(source="/home/alice/models", target="/home/alice/models", read_only=False),
    ),
    env=(("GREETING", 'a $HOME "b"'),),
    ports=(8501,),
    groups=(("lab", 700),),
    cull_idle=43_200,
    forgets_output=True,
)


@pytest.mark.parametrize(
    ("name", "stack"),
    [
        ("tunnel", STACK),
        ("public", replace(STACK, bind=("",), port=8890)),
        ("address", replace(STACK, bind=("127.0.0.1", "192.0.2.7", "2001:db8::7"))),
        ("memory", replace(STACK, memory=16 << 30)),
        ("no-groups", replace(STACK, account=replace(ALICE, groups=()))),
        ("volume", replace(STACK, files=None)),
        ("hardware", HARDWARE),
    ],
)
def test_the_compose_file(name: str, stack: Stack) -> None:
    assert_golden(f"compose.{name}.yaml", compose(stack))


@pytest.mark.parametrize(
    "value",
    ["a $HOME ${USER}", 'quo"te', "it's", "back\\slash", "co: lon # no", "- dash", "{{ x }}", "%y"],
)
def test_a_value_comes_back_from_a_compose_scalar(value: str) -> None:
    scalar = render.yaml_string(value)
    assert json.loads(scalar.replace("$$", "$")) == value


def test_no_dollar_is_left_to_compose_alone() -> None:
    text = compose(replace(STACK, files="/data/$(id)/${HOME}/$x"), labels={"$k": "$v"})
    assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", text)


def test_a_value_never_takes_more_than_its_own_line() -> None:
    value = "x\n  privileged: true\r\n\u2028\u0085end"
    usual = compose(labels={"key": "value"})
    places = [
        compose(labels={"key": value}),
        compose(labels={value: "value"}),
        compose(replace(STACK, name=value), labels={"key": "value"}),
        compose(replace(STACK, hostname=value), labels={"key": "value"}),
        compose(replace(STACK, files=value), labels={"key": "value"}),
        compose(replace(STACK, bind=(value,)), labels={"key": "value"}),
        compose(replace(STACK, account=replace(ALICE, name=value)), labels={"key": "value"}),
    ]
    for odd in places:
        assert len(odd.splitlines()) == len(usual.splitlines())
        assert "\n  privileged" not in odd


def test_a_character_beyond_the_first_plane_is_one_escape_of_yaml() -> None:
    assert render.yaml_string("~/📓") == r'"~/\U0001f4d3"'


def test_a_compose_file_is_ascii_whatever_is_in_it() -> None:
    assert compose(replace(STACK, files="/home/jürgen/📓 daten")).isascii()


def test_no_volume_of_an_older_seal_shadows_a_newer_image() -> None:
    first, second = (render.volume_names("s", number)["seal"] for number in (1, 2))
    assert first != second


def test_the_authority_is_in_no_container() -> None:
    assert render.volume_names(STACK.name, 7)["authority"] not in compose()


# --- digest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        replace(STACK, port=8889),
        replace(STACK, bind=("",)),
        replace(STACK, files=None),
        replace(STACK, fixed_shared_memory=True),
        replace(STACK, gpus="all"),
        replace(STACK, mounts=(Mount(source="/data", target="/data", read_only=True),)),
        replace(STACK, env=(("A", "1"),)),
        replace(STACK, ports=(8501,)),
        replace(STACK, groups=(("lab", 700),)),
        replace(STACK, cull_idle=600),
        replace(STACK, forgets_output=True),
        replace(STACK, account=replace(ALICE, uid=1)),
        replace(STACK, hostname="other"),
    ],
)
def test_another_value_is_another_configuration(changed: Stack) -> None:
    assert changed.digest() != STACK.digest()


def test_what_a_host_says_of_its_memory_is_no_change_of_configuration() -> None:
    assert replace(STACK, shared_memory=1).digest() == STACK.digest()


def test_limits_that_change_live_are_no_change_of_configuration() -> None:
    assert replace(STACK, memory=1 << 30, cpus=2.0).digest() == STACK.digest()


def test_an_account_read_from_a_label_is_the_same_configuration() -> None:
    same = replace(STACK, account=replace(ALICE, groups=tuple(tuple(g) for g in ALICE.groups)))  # type: ignore[misc]
    assert same.digest() == STACK.digest()


def test_every_instruction_of_a_dockerfile_is_the_templates_own() -> None:
    rendered = environment_context()["Dockerfile"].decode()
    template = (assets.folder("images") / "Dockerfile.j2").read_text()
    # this lock has no kernel, layer of Debian packages, variables, files, commands nor CPython
    for kind, what in (
        ("for", "kernel"), ("if", "layer.apt"), ("if", "extra"), ("if", "run"),
        ("for", "name, value"),
        ("if", "interpreter"), ("if", "interpreter"),
    ):  # fmt: skip
        part = rf"\{{%- {kind} {what}.*?\{{%- end{kind} %\}}"
        assert re.search(part, template, flags=re.DOTALL)
        template = re.sub(part, "", template, count=1, flags=re.DOTALL)
    assert INSTRUCTION.findall(rendered) == INSTRUCTION.findall(template)


def test_a_restored_home_is_another_volume_and_the_same_configuration() -> None:
    restored = replace(STACK, home_volume=f"{STACK.name}_home-2")
    assert f'name: "{STACK.name}_home-2"\n    external: true' in compose(restored)
    assert restored.digest() == STACK.digest()
