"""Binder's files as an image definition."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from jupbox.binder import Binder, read_binder
from jupbox.site import reader_of

REPOSITORIES = Path(__file__).parents[1] / "binder"
PROJECT = '[project]\nname = "x"\nrequires-python = ">=3.9"\ndependencies = ["attrs"]\n'


def binder(files: Mapping[str, str]) -> Binder:
    folders = {path.partition("/")[0] for path in files if "/" in path}
    return read_binder(files.get, folders=folders)


def problems(files: Mapping[str, str]) -> list[str]:
    return [str(problem) for problem in binder(files).problems]


def test_a_repository_without_any_file_asks_for_nothing() -> None:
    assert binder({}).table(extends="minimal") == {"extends": "minimal"}


@pytest.mark.parametrize("folder", ["", "binder/", ".binder/"])
def test_files_of_the_root_or_of_its_binder_folder(folder: str) -> None:
    found = binder(
        {
            f"{folder}requirements.txt": "numpy\n-c pins.txt\n",
            f"{folder}pins.txt": "numpy==2.1.0\n",
            f"{folder}apt.txt": "# tools\nffmpeg graphviz\n\nlibgomp1  # for wheels\n",
            f"{folder}runtime.txt": "python-3.13\n",
        }
    )
    assert found.problems == ()
    assert found.table(extends="minimal") == {
        "extends": "minimal",
        "python": ["numpy"],
        "constraints": ["numpy==2.1.0"],
        "apt": ["ffmpeg", "graphviz", "libgomp1"],
        "requires-python": "==3.13.*",
    }
    assert found.table(extends="scipy", files=True) == {
        "extends": "scipy",
        "python": [f"{folder}requirements.txt"],
        "apt": ["ffmpeg", "graphviz", "libgomp1"],
        "requires-python": "==3.13.*",
    }


def test_a_binder_folder_replaces_the_root() -> None:
    files = {"binder/requirements.txt": "six", "requirements.txt": "numpy", "apt.txt": "less"}
    files |= {"environment.yml": "dependencies: []", "pyproject.toml": PROJECT, "setup.py": ""}
    found = binder(files)
    assert (found.python, found.apt, found.problems) == (("six",), (), ())


def test_both_folders_are_one_too_many() -> None:
    assert problems({"binder/a": "", ".binder/a": ""}) == ["binder:1: there is a .binder as well"]


def test_requirements_and_the_projects_dependencies_go_together() -> None:
    found = binder({"requirements.txt": "six", "pyproject.toml": PROJECT, "setup.py": ""})
    assert (found.python, found.requires_python, found.problems) == (("six", "attrs"), ">=3.9", ())
    assert "not installed" in found.notes[0]
    assert found.table(extends="minimal", files=True) == {
        "extends": "minimal",
        "python": ["requirements.txt", "pyproject.toml"],
    }


@pytest.mark.parametrize("lock", ["uv.lock", "pylock.toml"])
def test_a_lock_is_taken_for_the_pyproject_that_it_is_of(lock: str) -> None:
    text = '[[package]]\nname = "x"\nsource = { virtual = "." }\n'
    assert binder({lock: text, "pyproject.toml": PROJECT}).entries == (lock,)


def test_a_pyproject_that_only_sets_up_tools_asks_for_nothing() -> None:
    assert binder({"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}).entries == ()


def test_versions_of_runtime_and_of_the_project_both_hold() -> None:
    found = binder({"runtime.txt": "python-3.13.1", "pyproject.toml": PROJECT})
    assert found.requires_python == "==3.13.*, >=3.9"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("Dockerfile", "FROM x\n", "Dockerfile:1: a Dockerfile"),
        ("environment.yml", "name: x\n\ndependencies:\n  - six\n", "environment.yml:3: a conda"),
        ("Pipfile", "[[source]]\n\n[packages]\nsix = '*'\n", "Pipfile:3: an environment of Pip"),
        ("Project.toml", 'name = "x"\n[deps]\n', "Project.toml:2: a Julia"),
        ("install.R", "install.packages('x')", "install.R:1: packages that R installs"),
        ("DESCRIPTION", "Type: x\nPackage: y\n", "DESCRIPTION:2: an R package"),
        ("default.nix", "", "default.nix:1: a Nix"),
        ("setup.py", "setup()", "setup.py:1: a program"),
        ("runtime.txt", "r-4.1-2022-01-01\n", "runtime.txt:1: r-4.1-2022-01-01 is no Python"),
        ("runtime.txt", "python-3.7\n", "runtime.txt:1: Python 3.7, where 3.13 can be had"),
        (
            "pyproject.toml",
            '[project]\nrequires-python = "<3.13"\n',
            "pyproject.toml:2: Python <3.13,",
        ),
        ("apt.txt", "less\nffmpeg-\n", "apt.txt:2: ffmpeg- is no package"),
        ("requirements.txt", "six\n-e .\n", "requirements.txt:2: -e is not honoured"),
        ("postBuild", "#!/bin/sh\nset -e\n\nmake\n", "postBuild:4: a script that changes"),
        ("start", '#!/bin/bash\nexport A=1\nexec "$@"\n', "start:2: a script before the server"),
    ],
)
def test_what_cannot_be_honoured_is_named_by_file_and_line(
    name: str, text: str, problem: str
) -> None:
    (found,) = problems({name: text})
    assert found.startswith(problem)


def test_a_range_that_cannot_be_had_is_left_out() -> None:
    text = '[project]\nrequires-python = "<3.13"\ndependencies = ["six"]\n'
    assert binder({"pyproject.toml": text}).table(extends="minimal") == {
        "extends": "minimal",
        "python": ["six"],
    }


def test_everything_else_counts_all_the_same() -> None:
    found = binder({"environment.yml": "dependencies: []", "requirements.txt": "six\n./x\nattrs\n"})
    assert found.python == ("six", "attrs")
    assert len(found.problems) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [("postBuild", "#!/bin/sh\n\nset -e\n# nothing\n"), ("start", '#!/bin/sh\nexec "$@"\n')],
)
def test_a_script_that_does_nothing_is_no_problem(name: str, text: str) -> None:
    assert problems({name: text}) == []


def test_the_script_at_the_end_of_a_build_is_known_by_its_path() -> None:
    assert binder({"binder/postBuild": "make\n"}).post_build == "binder/postBuild"


@pytest.mark.parametrize(
    ("name", "python", "places"),
    [
        ("nbsphinx", "ipympl", [".binder/start:5"]),
        ("nbclient", "jupyter_client>=7.0.0", []),
        ("papermill", "tenacity>=5.0.2", []),
        ("jupytext", "wordcloud", ["binder/postBuild:6"]),
    ],
)
def test_real_repositories_are_understood(name: str, python: str, places: list[str]) -> None:
    folder = REPOSITORIES / name
    source = tomllib.loads((folder / "SOURCE.toml").read_text())
    assert source.keys() >= {"url", "revision", "license"}
    folders = [path.name for path in folder.iterdir() if path.is_dir()]
    found = read_binder(reader_of(folder), folders=folders)
    assert python in found.python
    assert [problem.place for problem in found.problems] == places
