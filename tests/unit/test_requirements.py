"""Files of a project as requirement strings."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from jupbox.requirements import Requirements, expand, names_file


def expanded(files: Mapping[str, str], *entries: str) -> Requirements:
    return expand(entries or tuple(files)[:1], read=files.get, source="jupbox.toml", line=4)


def problems(files: Mapping[str, str], *entries: str) -> list[str]:
    return [str(problem) for problem in expanded(files, *entries).problems]


# --- which entries are files ------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    ["requirements.txt", "binder/requirements.txt", "pyproject.toml", "pyproject.toml[viz]",
     "pyproject.toml[viz,test]", "pyproject.toml:dev", "uv.lock", "uv.lock[viz]", "uv.lock:dev",
     "pylock.toml", "pylock.dev.toml", "sub/pyproject.toml", "../requirements.txt"],
)  # fmt: skip
def test_a_files_name_is_known(entry: str) -> None:
    assert names_file(entry)


@pytest.mark.parametrize(
    "entry",
    ["numpy", "pandas>=2", "pyproject", "toml", "uv", "ruamel.yaml", "zope.interface[test]",
     "other.toml", "my.lock", "pandas; python_version < '3.txt'"],
)  # fmt: skip
def test_a_package_is_no_file(entry: str) -> None:
    assert not names_file(entry)


def test_strings_and_files_go_together_in_order_and_once() -> None:
    files = {"requirements.txt": "six\npandas\n"}
    assert expanded(files, "numpy", "requirements.txt", "six").python == ("numpy", "six", "pandas")


def test_a_file_that_is_not_there_is_named_with_who_names_it() -> None:
    assert problems({}, "requirements.txt") == ["jupbox.toml:4: requirements.txt is not there"]


@pytest.mark.parametrize("entry", ["/etc/passwords.txt", "../secret.txt", "a/../../secret.txt"])
def test_a_file_outside_of_the_project_is_not_read(entry: str) -> None:
    def read(path: str) -> str:
        raise AssertionError(f"{path} was read")

    (problem,) = expand([entry], read=read, source="jupbox.toml").problems
    assert "outside of the project" in problem.what


# --- requirements.txt -------------------------------------------------------------------------


def test_a_requirements_file_is_read_as_pip_reads_it() -> None:
    text = """\ufeff# a comment

numpy >= 1.26 , < 3   # and another
pandas[excel] ~= 2.2 ; python_version >= "3.9"
six==1.16.0 \\
    --hash=sha256:1e61c37477a1626458e36f7b1d82aa5c9b094fa4802892072e49de9c60c4c926 \\
    --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254
url-normalize  # not#a comment
"""
    found = expanded({"requirements.txt": text})
    assert found.problems == ()
    assert found.python == (
        "numpy<3,>=1.26",
        'pandas[excel]~=2.2; python_version >= "3.9"',
        "six==1.16.0",
        "url-normalize",
    )


def test_files_include_files_beside_themselves_and_constraints_are_kept_apart() -> None:
    files = {
        "binder/requirements.txt": "-r ../base.txt\n--requirement=more.txt\n-c pins.txt\n",
        "base.txt": "numpy\n",
        "binder/more.txt": "-r requirements.txt\nscipy\n",
        "binder/pins.txt": "numpy==2.1.0\nscipy<2\n",
    }
    found = expanded(files)
    assert (found.problems, found.python) == ((), ("numpy", "scipy"))
    assert found.constraints == ("numpy==2.1.0", "scipy<2")


def test_what_a_constraints_file_requires_is_a_constraint_too() -> None:
    files = {"requirements.txt": "-c pins.txt", "pins.txt": "-r more.txt", "more.txt": "six<2"}
    assert expanded(files).constraints == ("six<2",)


@pytest.mark.parametrize("option", ["--only-binary :all:", "--prefer-binary", "--require-hashes"])
def test_options_that_hold_anyhow_are_no_problem(option: str) -> None:
    assert expanded({"requirements.txt": f"{option}\nsix\n"}) == Requirements(python=("six",))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("--index-url https://key:word@index.example.org/simple", "--index-url is not honoured"),
        ("--extra-index-url=https://index.example.org", "--extra-index-url is not honoured"),
        ("-i https://index.example.org", "-i is not honoured"),
        ("-f wheels", "-f is not honoured"),
        ("-e .", "-e is not honoured"),
        ("--editable=.", "--editable is not honoured"),
        ("--no-binary :all:", "--no-binary is not honoured"),
        ("--pre", "--pre is not honoured"),
        ("--use-feature=x", "--use-feature is not honoured"),
        (".", "this is a folder"),
        (".[viz]", "this is a folder"),
        ("./sub", "this is a folder"),
        ("wheels/six-1.whl", "this is a folder or a file"),
        ("https://example.org/six.whl", "this is an address"),
        ("git+https://key@example.org/six", "this is an address"),
        ("six @ https://key@example.org/six.whl", "six is named by an address"),
        ("six==${VERSION}", "an environment variable"),
        ("-r missing.txt", "sub/missing.txt is not there"),
        ("-r https://example.org/r.txt", "a file at an address"),
        ("six six", "this is not a Python requirement"),
    ],
)
def test_what_a_lock_cannot_hold_is_named_by_file_and_line(line: str, what: str) -> None:
    found = expanded({"sub/requirements.txt": f"# first\nsix\n{line}\nnumpy\n"})
    (problem,) = found.problems
    assert problem.place == "sub/requirements.txt:3"
    assert problem.what.startswith(what)
    assert "key" not in f"{problem}{problem.remedy}"
    assert problem.remedy.endswith(".")
    assert found.python == ("six", "numpy")


def test_the_line_of_a_continued_requirement_is_its_first() -> None:
    text = "six\\\n  ==1\n\n./a \\\n --hash=x\n"
    assert problems({"requirements.txt": text})[0].startswith("requirements.txt:4: ")


# --- pyproject.toml ---------------------------------------------------------------------------

PYPROJECT = """
[project]
name = "My_Project"
requires-python = ">=3.11"
dependencies = [
    "numpy>=2",
    "pandas",
]

[project.optional-dependencies]
viz = ["matplotlib"]
all = ["my-project[viz]", "scipy"]

[dependency-groups]
test = ["pytest"]
dev = [{ include-group = "test" }, "ruff"]
"""


@pytest.mark.parametrize(
    ("entry", "python"),
    [
        ("pyproject.toml", ("numpy>=2", "pandas")),
        ("pyproject.toml[viz]", ("numpy>=2", "pandas", "matplotlib")),
        ("pyproject.toml[all]", ("numpy>=2", "pandas", "matplotlib", "scipy")),
        ("pyproject.toml:dev", ("pytest", "ruff")),
    ],
)
def test_dependencies_extras_and_groups_of_a_pyproject(entry: str, python: tuple[str, ...]) -> None:
    found = expanded({"pyproject.toml": PYPROJECT}, entry)
    assert (found.problems, found.python) == ((), python)
    assert found.requires_python == ">=3.11"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("pyproject.toml[vis]", "pyproject.toml:10: there is no extra 'vis'"),
        ("pyproject.toml:docs", "pyproject.toml:14: there is no dependency group 'docs'"),
    ],
)
def test_an_extra_or_group_that_is_not_there_is_named(entry: str, problem: str) -> None:
    (found,) = expanded({"pyproject.toml": PYPROJECT}, entry).problems
    assert str(found) == problem
    assert "There are: " in found.remedy


def test_a_source_of_its_own_is_a_problem_only_where_it_is_needed() -> None:
    text = PYPROJECT + '\n[tool.uv.sources]\nnumpy = { path = "../numpy" }\nruff = { git = "x" }\n'
    assert problems({"pyproject.toml": text})[0].startswith("pyproject.toml:19: numpy has a source")
    assert len(problems({"pyproject.toml": text})) == 1
    assert problems({"pyproject.toml": text}, "pyproject.toml:test") == []


def test_an_address_in_a_pyproject_has_its_own_line() -> None:
    text = '[project]\nname = "x"\ndependencies = [\n  "six",\n  "a @ git+https://h/a",\n]\n'
    assert problems({"pyproject.toml": text})[0].startswith("pyproject.toml:5: a is named by")


def test_dynamic_dependencies_come_from_the_files_that_setuptools_reads() -> None:
    text = (
        '[project]\nname = "x"\ndynamic = ["dependencies", "optional-dependencies"]\n'
        '[tool.setuptools.dynamic]\ndependencies = { file = ["requirements.txt"] }\n'
        'optional-dependencies.dev = { file = "dev.txt" }\n'
    )
    files = {"sub/pyproject.toml": text, "sub/requirements.txt": "six\n", "sub/dev.txt": "ruff\n"}
    assert expanded(files, "sub/pyproject.toml[dev]") == Requirements(python=("six", "ruff"))


def test_dynamic_dependencies_of_a_program_are_a_problem() -> None:
    text = '[project]\nname = "x"\ndynamic = ["dependencies"]\n'
    assert "pyproject.toml:3: a program would" in problems({"pyproject.toml": text})[0]


def test_poetrys_own_words_are_a_problem() -> None:
    text = '[tool.poetry.dependencies]\nnumpy = "^2"\n'
    assert "Poetry" in problems({"pyproject.toml": text})[0]


@pytest.mark.parametrize("name", ["pyproject.toml", "uv.lock", "pylock.toml"])
def test_a_file_that_is_no_toml_is_named_with_its_line(name: str) -> None:
    assert problems({name: "a = 1\nb = \n"})[0].startswith(f"{name}:2: this is not valid TOML")


# --- uv.lock ----------------------------------------------------------------------------------

UV_LOCK = """version = 1
requires-python = ">=3.11"

[[package]]
name = "mine"
version = "0.1"
source = { editable = "." }
dependencies = [
    { name = "pandas", extra = ["excel"] },
    { name = "numpy", version = "1.26.4", source = { registry = "https://x" }, \
marker = "python_full_version < '3.12'" },
    { name = "numpy", version = "2.1.0", source = { registry = "https://x" }, \
marker = "python_full_version >= '3.12'" },
]

[package.optional-dependencies]
viz = [{ name = "here" }]

[package.dev-dependencies]
dev = [{ name = "ruff" }]

[[package]]
name = "numpy"
version = "1.26.4"
source = { registry = "https://x" }
resolution-markers = ["python_full_version < '3.12'"]

[[package]]
name = "numpy"
version = "2.1.0"
source = { registry = "https://x" }
resolution-markers = ["python_full_version >= '3.12'"]

[[package]]
name = "pandas"
version = "2.2.3"
source = { registry = "https://x" }
dependencies = [{ name = "six" }]

[package.optional-dependencies]
excel = [{ name = "openpyxl" }]

[[package]]
name = "openpyxl"
version = "3.1.5"
source = { registry = "https://x" }

[[package]]
name = "six"
version = "1.16.0"
source = { registry = "https://x" }

[[package]]
name = "ruff"
version = "0.9.1"
source = { registry = "https://x" }

[[package]]
name = "here"
version = "1"
source = { directory = "libs/here" }
"""


def test_a_uv_lock_gives_what_the_project_asks_for_and_pins_all_that_comes_with_it() -> None:
    found = expanded({"uv.lock": UV_LOCK})
    assert found.problems == ()
    assert found.python == (
        "pandas[excel]",
        'numpy; python_full_version < "3.12"',
        'numpy; python_full_version >= "3.12"',
    )
    assert found.constraints == (
        'numpy==1.26.4; python_full_version < "3.12"',
        'numpy==2.1.0; python_full_version >= "3.12"',
        "pandas==2.2.3",
        "openpyxl==3.1.5",
        "six==1.16.0",
    )
    assert found.requires_python == ">=3.11"


def test_a_group_of_a_uv_lock_stands_alone() -> None:
    found = expanded({"uv.lock": UV_LOCK}, "uv.lock:dev")
    assert (found.python, found.constraints) == (("ruff",), ("ruff==0.9.1",))


def test_a_package_of_a_uv_lock_that_comes_from_a_folder_is_named_by_line() -> None:
    (problem,) = problems({"uv.lock": UV_LOCK}, "uv.lock[viz]")
    assert problem.startswith("uv.lock:59: here does not come from an index")


def test_a_uv_lock_without_a_project_is_a_problem() -> None:
    assert "no project at its root" in problems({"uv.lock": "version = 1\n"})[0]


# --- pylock.toml ------------------------------------------------------------------------------

PYLOCK = """lock-version = "1.0"
requires-python = ">=3.12"
extras = ["viz"]
dependency-groups = ["dev", "default"]
default-groups = ["default"]

[[packages]]
name = "numpy"
version = "2.1.0"

[[packages]]
name = "colorama"
version = "0.4.6"
marker = "sys_platform == 'win32'"

[[packages]]
name = "matplotlib"
version = "3.9.0"
marker = "'viz' in extras"

[[packages]]
name = "ruff"
version = "0.9.1"
marker = "python_version >= '3.12' and 'dev' in dependency_groups"

[[packages]]
name = "mine"
directory = { path = "." }

[[packages]]
name = "there"
marker = "'dev' in dependency_groups"
vcs = { type = "git", url = "https://x" }
"""


@pytest.mark.parametrize(
    ("entry", "more"),
    [
        ("pylock.toml", ()),
        ("pylock.toml[viz]", ("matplotlib==3.9.0",)),
    ],
)
def test_a_pylock_gives_every_package_at_its_version(entry: str, more: tuple[str, ...]) -> None:
    found = expanded({"pylock.toml": PYLOCK}, entry)
    assert found.problems == ()
    assert found.python == ("numpy==2.1.0", 'colorama==0.4.6; sys_platform == "win32"', *more)
    assert found.requires_python == ">=3.12"


def test_a_package_of_a_pylock_that_comes_from_git_is_named_where_it_is_wanted() -> None:
    found = expanded({"pylock.toml": PYLOCK}, "pylock.toml:dev")
    assert 'ruff==0.9.1; python_version >= "3.12"' in found.python
    assert [problem.place for problem in found.problems] == ["pylock.toml:30"]


def test_a_marker_that_is_not_understood_is_said_and_not_guessed() -> None:
    text = PYLOCK.replace("'viz' in extras", "('viz' in extras or os_name == 'nt') and '1' == '2'")
    assert "not understood" in problems({"pylock.toml": text})[0]
