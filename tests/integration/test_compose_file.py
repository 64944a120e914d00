"""Rendered compose files as compose itself reads them; no engine is asked."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupbox.render import Stack
from tests.unit.test_render import ALICE, STACK, compose

ODD = "/data/$HOME ${X:-y} $$ \"q\" 'a' \\n\u2028\u0085 jürgen 📓 # no: {{ x }} %20"


def read(text: str, folder: Path) -> dict[str, Any]:
    """The file as `docker compose config` understands it."""
    path = folder / "compose.yaml"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["docker", "compose", "--file", path, "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def unescaped(value: str) -> str:
    # what `config` prints could be read by compose again, so that a dollar is two
    return value.replace("$$", "$")


@pytest.mark.parametrize(
    "stack",
    [
        STACK,
        replace(STACK, bind=("",)),
        replace(STACK, bind=("127.0.0.1", "192.0.2.7", "2001:db8::7")),
        replace(STACK, memory=16 << 30),
        replace(STACK, account=replace(ALICE, groups=()), files=None),
    ],
)
def test_compose_understands_what_is_rendered(stack: Stack, tmp_path: Path) -> None:
    found = read(compose(stack), tmp_path)
    notebook = found["services"]["notebook"]
    assert found["name"] == stack.name
    assert [port.get("host_ip", "") for port in notebook["ports"]] == list(stack.bind)
    assert notebook["user"] == "1234:1235"
    assert notebook.get("group_add", []) == [str(gid) for _, gid in stack.account.groups]
    assert notebook["cap_drop"] == ["ALL"]
    assert notebook["security_opt"] == ["no-new-privileges:true"]
    assert notebook["read_only"] is True
    assert notebook["restart"] == "always"
    assert notebook["init"] is True
    assert int(notebook.get("mem_limit", 0)) == (stack.memory or 0)
    assert int(notebook["shm_size"]) == stack.shared_memory
    binds = [volume for volume in notebook["volumes"] if volume["type"] == "bind"]
    assert [bind["source"] for bind in binds] == ([stack.files] if stack.files else [])


def test_every_value_comes_back_as_it_went_in(tmp_path: Path) -> None:
    found = read(compose(replace(STACK, files=ODD), labels={"key": ODD}), tmp_path)
    notebook = found["services"]["notebook"]
    (bind,) = [volume for volume in notebook["volumes"] if volume["type"] == "bind"]
    assert unescaped(bind["source"]) == ODD
    assert unescaped(notebook["labels"]["key"]) == ODD


def test_a_newline_in_a_value_adds_no_key(tmp_path: Path) -> None:
    evil = "x\n    privileged: true\n"
    notebook = read(compose(labels={"key": evil}), tmp_path)["services"]["notebook"]
    assert "privileged" not in notebook
    assert notebook["labels"]["key"] == evil
