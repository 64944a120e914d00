"""A definition of another repository, with variables, settings and files, on a box."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupbox.host.interpreters import Uv, resolve_interpreter
from tests.integration.interpreter_mirror import interpreter_mirror
from tests.integration.jupbox_command import Laptop, MainJob
from tests.integration.team import Team, team
from tests.integration.test_images import gateway_of
from tests.unit.git_repository import GitRepository

pytestmark = [pytest.mark.box, pytest.mark.xdist_group("box-workbox")]

THEMES = "@jupyterlab/apputils-extension:themes"
THEIRS = f"""
[images.core]
extends = "minimal"
env = {{ TEAM = "theirs", QUOTED = "a \\"b\\" $HOME 'c' \\\\ #d" }}
files = {{ "/opt/env/share/common data.csv" = "common.csv" }}
settings = {{ "{THEMES}" = {{ theme = "JupyterLab Dark", adaptive-theme = false }} }}
"""
PYTHON = "3.13.77"
OURS = f"""
requires-python = "=={PYTHON}"
extends = "git+{{url}}@main#images.core"
env = {{{{ TEAM = "ours", OMP_NUM_THREADS = "2" }}}}
files = {{{{ "/usr/local/bin/sites" = "bin/sites" }}}}
settings = {{{{ "{THEMES}" = {{{{ theme = "JupyterLab Light" }}}} }}}}
"""


@pytest.fixture
def there(tmp_path: Path) -> GitRepository:
    made = GitRepository.create(tmp_path / "there")
    made.commit(jupbox_toml=THEIRS, common_csv="a,b\n")
    return made


@pytest.fixture
def ours(
    ada: MainJob, tmp_path: Path, there: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Team]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mirror = interpreter_mirror(ada.stack, address=gateway_of(ada.box), version=PYTHON)
    with mirror as url:
        laptop = ada.laptop.at(tmp_path, UV_PYTHON_DOWNLOADS_JSON_URL=url)
        yield from _ours(ada, laptop, tmp_path / "ours", there)


def _ours(ada: MainJob, laptop: Laptop, folder: Path, there: GitRepository) -> Iterator[Team]:
    with team(ada, laptop, folder, "definitions") as made:
        (made.folder / "bin").mkdir()
        (made.folder / "bin" / "sites").write_text("#!/bin/sh\necho of $TEAM\n")
        (made.folder / "bin" / "sites").chmod(0o755)
        made.write('env = { OMP_NUM_THREADS = "3" }', OURS.format(url=there.url))
        uv = Uv(environ=laptop.environ, ca_bundle=None, cwd=made.folder)
        interpreter = resolve_interpreter(f"=={PYTHON}", uv, architecture="amd64")
        assert interpreter is not None
        made.lock_as_shared(interpreter)
        yield made


def test_what_completes_a_definition_is_in_kernels_terminals_and_jupyterlab(
    ours: Team, there: GitRepository, other_laptop: Laptop
) -> None:
    ours.jupbox("up")
    stack = ours.stack
    kernel = stack.start_kernel()
    stack.run_in_kernel(
        kernel,
        "import os\nfound = [os.environ[n] for n in ('TEAM', 'OMP_NUM_THREADS', 'QUOTED')]\n"
        "assert found == ['ours', '3', 'a \"b\" $HOME \\'c\\' \\\\ #d'], found",
    )
    assert stack.exec("bash", "-lc", "sites; stat -c '%a %U' /usr/local/bin/sites") == (
        "of ours\n755 root\n"
    )
    csv = "/opt/env/share/common data.csv"
    assert stack.exec("stat", "-c", "%a %U", csv) == "644 root\n"
    assert stack.exec("cat", csv) == "a,b\n"
    themes = stack.control("GET", f"/lab/api/settings/{THEMES}")["schema"]["properties"]
    assert (themes["theme"]["default"], themes["adaptive-theme"]["default"]) == (
        "JupyterLab Light",
        False,
    )
    _runs_a_cpython_of_its_own(ours)
    _pinned_whatever_the_branch_says(ours, there)
    _read_back_without_the_repository(ours, there, other_laptop)


def _runs_a_cpython_of_its_own(ours: Team) -> None:
    code = "import sys; print(sys.base_prefix)"
    folder = f"/opt/python/cpython-{PYTHON}-linux-x86_64-gnu"
    assert ours.stack.exec("/opt/env/bin/python", "-c", code).strip() == folder
    assert ours.stack.exec("ls", "-A", "/opt/python").split() == [folder.rpartition("/")[2]]
    # compiled files by time would be others in each build
    by_time = (
        "import pathlib\n"
        f"compiled = list(pathlib.Path({folder!r}).rglob('*.pyc'))\n"
        "print(len(compiled) > 100, [str(p) for p in compiled if p.read_bytes()[4] != 1])"
    )
    assert ours.stack.python(by_time) == "True []\n"


def _pinned_whatever_the_branch_says(ours: Team, there: GitRepository) -> None:
    running = ours.stack.identity()
    there.commit(jupbox_toml=THEIRS.replace("theirs", "moved"), common_csv="c\n")
    assert ours.laptop.jupbox("up", ours.name, "--dry-run").code == 0
    shutil.rmtree(there.folder)
    assert ours.laptop.jupbox("up", ours.name, "--dry-run").code == 0
    assert ours.jupbox("status", "--json").json["health"] == "healthy"
    assert ours.stack.identity() == running
    (ours.folder / "bin" / "sites").write_text("#!/bin/sh\n")
    refused = ours.laptop.jupbox("up", ours.name)
    assert (refused.code, "does not match the definition" in refused.stderr) == (5, True)


def _read_back_without_the_repository(ours: Team, there: GitRepository, other: Laptop) -> None:
    word = f"{ours.job.box.name}/{ours.name}"
    other.must("init", "--from", word)
    assert (other.folder / "common.csv").read_text() == "a,b\n"
    tool = other.folder / "bin" / "sites"
    assert (tool.read_text(), tool.stat().st_mode & 0o777) == ("#!/bin/sh\necho of $TEAM\n", 0o755)
    text = (other.folder / "jupbox.toml").read_text()
    assert there.url not in text
    assert json.dumps(THEMES) in text
    assert other.jupbox("up", ours.name, "--dry-run").code == 0
