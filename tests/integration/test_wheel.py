"""What is packaged: all that git has of the program, nothing else, and it runs from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("jupbox/", "images/", "compose/")
STRAYS = (
    "images/server/box.key",
    "images/minimal/box.pem",
    "jupbox/stray.pem",
    "compose/stray.key",
    "jupbox/__pycache__/cli.cpython-311.pyc",
)
NAME = f"jupbox-{version('jupbox')}"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


def run(*argv: str | Path, cwd: Path = ROOT) -> str:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked() -> set[str]:
    names = run("git", "-c", f"safe.directory={ROOT}", "ls-files", "-z").split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


def below(names: Iterable[str], *folders: str) -> set[str]:
    return {name for name in names if name.startswith(folders)}


@dataclass(frozen=True, kw_only=True)
class Built:
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A wheel and an sdist of a copy of what git has, with strays that git ignores."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    for name in STRAYS:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("stray")
    # both named: without, the wheel is built from the sdist, and what the sdist lacks is not seen
    build = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist")
    run(*build, "--outdir", out, source, cwd=source)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel=wheel, sdist=sdist)


def test_the_wheel_holds_every_tracked_file_and_nothing_else(built: Built) -> None:
    def place(name: str) -> str:
        return name if name.startswith("jupbox/") else f"jupbox/{name}"

    with zipfile.ZipFile(built.wheel) as archive:
        found = set(archive.namelist())
    about = below(found, f"{NAME}.dist-info/")
    assert found - about == {place(name) for name in below(tracked(), *SHIPPED)}
    assert {name.partition("/")[2] for name in about} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_the_sdist_holds_every_tracked_file_and_nothing_else(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        found = {m.name.removeprefix(f"{NAME}/") for m in archive if m.isfile()}
    kept = {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", ".gitignore"}
    expected = below(tracked(), *SHIPPED, "tests/") | (kept & tracked())
    assert found - {"PKG-INFO"} == expected


def test_no_file_that_git_ignores_slips_in(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel, tarfile.open(built.sdist) as sdist:
        names = [*wheel.namelist(), *sdist.getnames()]
    assert not [name for name in names if name.endswith((".pem", ".key", ".pyc"))]


def test_a_wheel_built_from_the_sdist_is_the_same(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = tmp_path / "again"
    source = tmp_path / NAME
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", again, source)
    (wheel,) = again.glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(built.wheel) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh environment's programs, the wheel installed, its dependencies lent."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    run(
        uv.find_uv_bin(),
        *("pip", "install", "--offline", "--no-index", "--no-deps", "--python", python),
        built.wheel,
    )
    where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # at the end of the path, so that the wheel's own jupbox comes first
    (Path(where) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_an_installed_jupbox_finds_its_own_files(installed: Path, tmp_path: Path) -> None:
    script = """
from jupbox import assets, project, render
print(assets.folder("images"))
print(assets.folder("compose"))
print(*sorted(project.shipped_definitions()))
print(*sorted(render.server_files()))
"""
    images, compose, definitions, server = run(
        installed / "python", "-c", script, cwd=tmp_path
    ).splitlines()
    assert Path(images).is_relative_to(installed.parent)
    assert Path(compose).is_relative_to(installed.parent)
    assert {"minimal", "scipy"} <= set(definitions.split())
    expected = below(tracked(), "images/server/")
    code = {f"server/{n.removeprefix('images/server/')}" for n in expected if "typed" not in n}
    assert set(server.split()) == code


def test_an_installed_jupbox_is_a_command(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "jupbox", "--version", cwd=tmp_path) == f"jupbox {version('jupbox')}\n"
    assert "jupbox up workbox" in run(installed / "jupbox", "--help", cwd=tmp_path)
