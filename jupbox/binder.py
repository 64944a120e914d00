"""What a repository asks for by the conventions of Binder, as an image definition.

The files and where they lie are those of repo2docker, and the locks that Python projects have
besides (https://repo2docker.readthedocs.io/en/latest/configuration/). What an image definition
cannot hold is named by file and line; nothing is guessed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from packaging.specifiers import SpecifierSet

from jupbox import requirements
from jupbox.requirements import Problem, Reader, Requirements

BASE_PYTHONS: Final = ("3.13",)
"""The versions of Python that a definition can have without naming a base."""

_FOLDERS: Final = ("binder", ".binder")
_PYTHON: Final = re.compile(r"python-(\d+)(?:\.(\d+))?(?:\.\d+)?")
_APT: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](=[A-Za-z0-9][A-Za-z0-9.+~:-]*)?")
_LEAVE_OUT: Final = "`--partial` goes on without it."
# files that are another environment altogether
_OTHERS: Final[Mapping[str, str]] = {
    "Dockerfile": "a Dockerfile is no definition that could be locked",
    "environment.yml": "a conda environment",
    "environment.yaml": "a conda environment",
    "Pipfile": "an environment of Pipenv's",
    "Project.toml": "a Julia environment",
    "JuliaProject.toml": "a Julia environment",
    "REQUIRE": "a Julia environment",
    "install.R": "packages that R installs by a script",
    "DESCRIPTION": "an R package with its dependencies",
    "default.nix": "a Nix environment",
}
_FIRST_LINE: Final[Mapping[str, re.Pattern[str]]] = {
    "environment.yml": re.compile(r"^dependencies\s*:"),
    "environment.yaml": re.compile(r"^dependencies\s*:"),
    "Pipfile": re.compile(r"^\[packages\]"),
    "Project.toml": re.compile(r"^\[deps\]"),
    "DESCRIPTION": re.compile(r"^Package\s*:"),
}
# lines of a script that do nothing by themselves
_NOTHING: Final = re.compile(r"""\s*(#.*|set\s+[-+].*|exec\s+"\$@"\s*)?""")


@dataclass(frozen=True, kw_only=True)
class Binder:
    """What a repository asks for.

    Attributes:
        folder: where its files lie: empty for the root, else `binder` or `.binder`.
        entries: `python` of a definition beside these files: their names.
        python: the same without files: requirement strings.
        constraints: versions that its files pin.
        apt: Debian packages.
        requires_python: a range of versions; None is any.
        runtime: the part of it that no file of `entries` says.
        post_build: the path of a script that is to run at the end of the build; None without one.
        problems: what cannot be honoured, in the files' order.
        notes: what is another way than on Binder, for a person.
    """

    folder: str
    entries: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    apt: tuple[str, ...] = ()
    requires_python: str | None = None
    runtime: str | None = None
    post_build: str | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def table(self, *, extends: str, files: bool = False) -> dict[str, Any]:
        """The `[images.*]` table.

        Args:
            extends: the definition that brings the server.
            files: name the files, which then must lie beside `jupbox.toml`; else what they say.
        """
        table: dict[str, Any] = {"extends": extends}
        named = {
            "python": self.entries if files else self.python,
            "constraints": () if files else self.constraints,
            "apt": self.apt,
        }
        table |= {key: list(value) for key, value in named.items() if value}
        wanted = self.runtime if files else self.requires_python
        if wanted:
            table["requires-python"] = wanted
        return table


def read_binder(
    read: Reader, *, folders: Collection[str] = (), pythons: Collection[str] = BASE_PYTHONS
) -> Binder:
    """What the files of a repository ask for.

    Args:
        read: gives their texts.
        folders: the folders at its root.
        pythons: the versions of Python that can be had, such as `3.13`.
    """
    sheet = _Sheet(read=read, pythons=pythons)
    there = [name for name in _FOLDERS if name in folders]
    if len(there) > 1:
        sheet.problem("binder:1", "there is a .binder as well", "Have one of the two.")
    sheet.folder = there[0] if there else ""
    sheet.other_environments()
    sheet.python_files()
    sheet.apt_file()
    sheet.runtime()
    sheet.scripts()
    return sheet.result()


@dataclass(kw_only=True)
class _Sheet:
    """What was gathered so far."""

    read: Reader
    pythons: Collection[str]
    folder: str = ""
    entries: list[str] = field(default_factory=list)
    apt: list[str] = field(default_factory=list)
    runtime_range: str | None = None
    post_build: str | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name

    def text(self, name: str) -> str | None:
        return self.read(self.path(name))

    def problem(self, place: str, what: str, remedy: str = _LEAVE_OUT) -> None:
        self.problems.append(Problem(place=place, what=what, remedy=remedy))

    def result(self) -> Binder:
        found = requirements.expand(self.entries, read=self.read, source="repository")
        ranges = [text for text in (self.runtime_range, self._fitting(found)) if text]
        return Binder(
            folder=self.folder,
            entries=tuple(self.entries),
            python=found.python,
            constraints=found.constraints,
            apt=tuple(dict.fromkeys(self.apt)),
            requires_python=", ".join(ranges) or None,
            runtime=self.runtime_range,
            post_build=self.post_build,
            problems=(*self.problems, *found.problems),
            notes=tuple(self.notes),
        )

    def other_environments(self) -> None:
        for name, what in _OTHERS.items():
            text = self.text(name)
            if text is not None:
                pattern = _FIRST_LINE.get(name)
                lines = enumerate(text.splitlines(), 1)
                line = next((n for n, one in lines if pattern and pattern.match(one)), 1)
                self.problem(f"{self.path(name)}:{line}", what)

    def python_files(self) -> None:
        for name in ("requirements.txt", *(("pylock.toml",) if self.folder else ())):
            if self.text(name) is not None:
                self.entries.append(self.path(name))
        if not self.folder:  # Binder installs the project itself only then
            self._project()

    def _project(self) -> None:
        locks = [name for name in ("uv.lock", "pylock.toml") if self.read(name) is not None]
        static = self._is_static(self.read("pyproject.toml"))
        if locks:
            self.entries.append(locks[0])
        elif static:
            self.entries.append("pyproject.toml")
        elif self.read("setup.py") is not None:
            self.problem("setup.py:1", "a program that would have to be run to know what it needs")
        if locks or static:
            self.notes.append("The project's own package is not installed, only what it needs.")

    @staticmethod
    def _is_static(text: str | None) -> bool:
        """Whether a pyproject.toml is that of a package, and not just settings of tools."""
        try:
            data = tomllib.loads(text or "")
        except tomllib.TOMLDecodeError:
            return True  # and is a problem with its line where it is read
        return "project" in data or "poetry" in data.get("tool", {})

    def apt_file(self) -> None:
        for number, line in enumerate((self.text("apt.txt") or "").splitlines(), 1):
            for name in line.partition("#")[0].split():
                if _APT.fullmatch(name):
                    self.apt.append(name)
                else:
                    self.problem(f"{self.path('apt.txt')}:{number}", f"{name[:40]} is no package")

    def runtime(self) -> None:
        text = self.text("runtime.txt")
        if text is None or not text.strip():
            return
        place = f"{self.path('runtime.txt')}:1"
        word = text.split()[0]
        match = _PYTHON.fullmatch(word)
        if match is None:
            self.problem(place, f"{word[:40]} is no Python")
        elif match[2] is None:
            self.runtime_range = f"=={match[1]}.*"
        elif f"{match[1]}.{match[2]}" in self.pythons:
            self.runtime_range = f"=={match[1]}.{match[2]}.*"
        else:
            self.problem(
                place, f"Python {match[1]}.{match[2]}, where {', '.join(self.pythons)} can be had"
            )

    def _fitting(self, found: Requirements) -> str | None:
        """The range of versions that the files want, if one of it can be had."""
        wanted = found.requires_python
        # as locking looks at it, which knows no patch release
        if wanted is None or any(f"{one}.0" in SpecifierSet(wanted) for one in self.pythons):
            return wanted
        self.problem(
            found.python_place, f"Python {wanted}, where {', '.join(self.pythons)} can be had"
        )
        return None

    def scripts(self) -> None:
        script = self.text("postBuild")
        if script is not None:
            self.post_build = self.path("postBuild")
            self._script("postBuild", script, "a script that changes what was built")
        start = self.text("start")
        if start is not None:
            self._script(
                "start", start, "a script before the server: `env` of a box sets variables"
            )

    def _script(self, name: str, text: str, what: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            if not _NOTHING.fullmatch(line):
                self.problem(f"{self.path(name)}:{number}", what)
                return
