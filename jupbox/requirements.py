"""What a project's files ask of Python: requirements, and the versions that must be taken.

`requirements.txt`, `pyproject.toml`, `uv.lock` and `pylock.toml` as an image definition names them.
Nothing is read here: a `Reader` gives the files' texts. What a lock cannot hold (an address, a
folder, an option of pip's) is a `Problem` with file and line, and all others count all the same.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from jupbox.tomltext import KeyPath, key_lines, line_of, syntax_error

Reader = Callable[[str], str | None]
"""The text of a file by its path in the project, None where there is none."""

_FILE: Final = re.compile(
    r"(?P<path>[^\s\[\]:,;<>=!~()@'\"]+\.txt"
    r"|(?:[^\s\[\]:,;<>=!~()@'\"]+/)?(?:pyproject\.toml|uv\.lock|pylock(?:\.[A-Za-z0-9_-]+)?\.toml))"
    r"(?:\[(?P<extras>[A-Za-z0-9._, -]+)\])?"
    r"(?::(?P<group>[A-Za-z0-9._-]+))?"
)
_WHAT_FILES: Final = "requirements.txt, pyproject.toml, uv.lock, pylock.toml"
# as `jupbox.tables` takes requirement strings: what they become ends in uv's own input
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-\[\],<>=!~ ;'\"()*+]*")
_REQUIRES_PYTHON: Final = re.compile(r"(~=|==|!=|<=|>=|<|>)\s*\d+(\.\d+)*(\.\*)?")
_NO_ADDRESS: Final = "a lock names versions of an index, never an address or a folder"

# Options of a requirements file that ask for what is done anyhow.
_MET: Final = frozenset({"--only-binary", "--prefer-binary", "--require-hashes"})
_OPTION: Final = re.compile(r"(?P<name>--[a-z-]+|-[a-zA-Z])(?:\s*=\s*|\s+|(?<=-[a-zA-Z]))?")
_HASH: Final = re.compile(r"\s+--hash[= ]\S+")
_COMMENT: Final = re.compile(r"(^|\s+)#.*$")
_VARIABLE: Final = re.compile(r"\$\{[A-Z0-9_]+\}")
_MARKED_BY: Final = re.compile(
    r"""(?P<quote>['"])(?P<name>[^'"]+)(?P=quote)\s+in\s+(?P<what>extras|dependency_groups)"""
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a file asks for and cannot have.

    Attributes:
        place: `requirements.txt:3`.
        what: a phrase that follows it.
        remedy: what to do, a sentence.
    """

    place: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What files and requirement strings come to.

    Attributes:
        python: requirement strings (PEP 508), without addresses.
        constraints: versions that are taken wherever the package is needed.
        requires_python: a range of Python versions, None for any.
        python_place: where that stands, such as `pyproject.toml:4`; empty without one.
        problems: what cannot be had.
    """

    python: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    requires_python: str | None = None
    python_place: str = ""
    problems: tuple[Problem, ...] = ()


def names_file(entry: str) -> bool:
    """Whether an entry of `python` is a file of the project, not a package."""
    return _FILE.fullmatch(entry) is not None


def expand(entries: Sequence[str], *, read: Reader, source: str, line: int = 1) -> Requirements:
    """Requirement strings and the names of files, as requirement strings alone.

    Args:
        entries: as `python` of an image definition holds them.
        read: gives the texts of files.
        source: the file in which the entries stand, for a file that is missing.
        line: the line of the entries there.
    """
    sheet = _Sheet(read=read)
    for entry in entries:
        match = _FILE.fullmatch(entry)
        if match is None:
            sheet.python.append(entry)
            continue
        extras = tuple(name.strip() for name in (match["extras"] or "").split(",") if name.strip())
        sheet.file(match["path"], extras, match["group"], named=f"{source}:{line}")
    return Requirements(
        python=tuple(dict.fromkeys(sheet.python)),
        constraints=tuple(dict.fromkeys(sheet.constraints)),
        requires_python=", ".join(dict.fromkeys(sheet.requires_python)) or None,
        python_place=sheet.python_place,
        problems=tuple(dict.fromkeys(sheet.problems)),
    )


@dataclass(kw_only=True)
class _Sheet:
    """What was gathered so far."""

    read: Reader
    python: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    requires_python: list[str] = field(default_factory=list)
    python_place: str = ""
    problems: list[Problem] = field(default_factory=list)

    def problem(self, place: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(place=place, what=what, remedy=remedy))

    def text(self, path: str, *, named: str) -> str | None:
        """The text of a file that `named` names; a problem where there is none."""
        outside = path.startswith(("/", "~")) or path.split("/", maxsplit=1)[0] == ".."
        text = None if outside else self.read(path)
        if outside:
            self.problem(named, f"{path} lies outside of the project", "Name a file of it.")
        elif text is None:
            self.problem(
                named, f"{path} is not there", "Name a file of the project that can be read."
            )
        return text

    def file(self, path: str, extras: Sequence[str], group: str | None, *, named: str) -> None:
        path = posixpath.normpath(path)
        text = self.text(path, named=named)
        if text is None:
            return
        if path.endswith(".txt"):
            if extras or group:
                self.problem(named, f"{path} has no extras or groups", f"Write {path} alone.")
            _Lines(sheet=self, seen=(path,)).take(path, text, into=self.python)
            return
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line, what = syntax_error(error, text)
            self.problem(f"{path}:{line}", f"this is not valid TOML: {what}", "Mend that line.")
            return
        kinds = {"pyproject.toml": _Pyproject, "uv.lock": _UvLock}
        kind = kinds.get(posixpath.basename(path), _Pylock)
        kind(sheet=self, path=path, text=text, data=data, extras=extras, group=group).take()

    def requirement(self, text: str, *, place: str, into: list[str]) -> Requirement | None:
        """Take one requirement (PEP 508), if it can be had."""
        try:
            parsed = Requirement(text)
        except InvalidRequirement:
            what = _address_in(text) or "this is not a Python requirement"
            remedy = (
                "Write a package's name and versions, such as pandas>=2."
                if what.startswith("this")
                else "Take the package from an index, or leave it out."
            )
            self.problem(place, what, remedy)
            return None
        if parsed.url:
            self.problem(
                place,
                f"{parsed.name} is named by an address, and {_NO_ADDRESS}",
                "Take it from an index, or leave it out.",
            )
            return None
        shown = str(parsed)
        if _PLAIN.fullmatch(shown) is None:
            self.problem(place, "this requirement cannot be had", "Write it in a plainer way.")
            return None
        into.append(shown)
        return parsed

    def for_python(self, wanted: object, *, place: str) -> None:
        """Take a `requires-python`."""
        if wanted is None:
            return
        parts = [part.strip() for part in wanted.split(",")] if isinstance(wanted, str) else [""]
        if all(_REQUIRES_PYTHON.fullmatch(part) for part in parts if part):
            self.requires_python.extend(part for part in parts if part)
            self.python_place = self.python_place or place
        else:
            self.problem(place, "requires-python is no range of versions", "Write such as >=3.11.")


def _address_in(text: str) -> str:
    """Why a line is none that a lock can hold; empty where it just is no requirement."""
    word = text.split(maxsplit=1)[0] if text.split() else ""
    if "://" in text:
        return f"this is an address, and {_NO_ADDRESS}"
    if word.startswith((".", "/", "~")) or "/" in word or word.endswith((".whl", ".gz", ".zip")):
        return f"this is a folder or a file, and {_NO_ADDRESS}"
    return ""


# --- requirements.txt -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """A requirements file (https://pip.pypa.io/en/stable/reference/requirements-file-format/)."""

    sheet: _Sheet
    seen: tuple[str, ...]

    def take(self, path: str, text: str, *, into: list[str]) -> None:
        for line, content in _logical_lines(text):
            place = f"{path}:{line}"
            if content.startswith("-"):
                self._option(content, path, place, into=into)
            elif _VARIABLE.search(content):
                self.sheet.problem(
                    place, "an environment variable is left to nobody", "Write its value."
                )
            else:
                # our own resolving looks up the hashes of each version that it takes
                self.sheet.requirement(_HASH.sub("", content), place=place, into=into)

    def _option(self, content: str, path: str, place: str, *, into: list[str]) -> None:
        match = _OPTION.match(content)
        name, value = (match["name"], content[match.end() :]) if match else (content, "")
        if name in {"-r", "--requirement"}:
            self._include(value, path, place, into=into)
        elif name in {"-c", "--constraint"}:
            self._include(value, path, place, into=self.sheet.constraints)
        elif name not in _MET:
            what, remedy = _refused(name)
            self.sheet.problem(place, what, remedy)

    def _include(self, value: str, path: str, place: str, *, into: list[str]) -> None:
        if "://" in value:
            self.sheet.problem(place, "a file at an address is not read", "Put it in the project.")
            return
        name = posixpath.normpath(posixpath.join(posixpath.dirname(path), value.strip("'\" ")))
        if name in self.seen:
            return  # pip, too, takes a file in a circle once
        text = self.sheet.text(name, named=place)
        if text is not None:
            replace(self, seen=(*self.seen, name)).take(name, text, into=into)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, each with the number of its first physical one."""
    held, first = "", 0
    for number, physical in enumerate([*text.lstrip("\ufeff").splitlines(), ""], 1):
        # a comment ends a line even after a backslash, as pip has it
        line = physical if physical.endswith("\\") else _COMMENT.sub("", physical)
        first = first if held else number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            held += f"{line[:-1].strip()} "
            continue
        content = _COMMENT.sub("", held + line).strip()
        held = ""
        if content:
            yield first, content


def _refused(option: str) -> tuple[str, str]:
    """Why an option cannot be honoured, and what to do; never its value, which may hold a key."""
    if option in {"-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links",
                  "--trusted-host"}:  # fmt: skip
        return (
            f"{option} is not honoured: a lock names no host",
            "Name the index in uv's own configuration (uv.toml, or UV_DEFAULT_INDEX).",
        )
    if option in {"-e", "--editable"}:
        return f"{option} is not honoured: {_NO_ADDRESS}", "Leave the line out."
    if option == "--no-binary":
        return f"{option} is not honoured: only wheels are installed", "Leave the line out."
    if option == "--pre":
        return (
            f"{option} is not honoured: it would move every package",
            "Name the version, such as package>=2.0rc1, where one is wanted.",
        )
    return f"{option} is not honoured", "Leave the option out."


# --- TOML -------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Toml:
    """A TOML file, and which of its extras or which group is wanted."""

    sheet: _Sheet
    path: str
    text: str
    data: Mapping[str, Any]
    extras: Sequence[str]
    group: str | None

    def take(self) -> None:
        raise NotImplementedError

    def place(self, *key: str | int) -> str:
        path: KeyPath = key
        return f"{self.path}:{line_of(key_lines(self.text), path)}"

    def problem(self, *key: str | int, what: str, remedy: str) -> None:
        self.sheet.problem(self.place(*key), what, remedy)

    def no_such(self, kind: str, name: str, known: Iterable[str], *key: str | int) -> None:
        there = ", ".join(sorted(known)) or "none"
        self.problem(
            *key,
            what=f"there is no {kind} {name!r}",
            remedy=f"There are: {there}.",
        )


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _named(tables: Mapping[str, Any], name: str) -> str | None:
    """The key that is `name` in the way that packages' names are compared."""
    return next((key for key in tables if canonicalize_name(key) == canonicalize_name(name)), None)


class _Pyproject(_Toml):
    """`project.dependencies`, extras (PEP 621) and dependency groups (PEP 735)."""

    def take(self) -> None:
        project = _table(self.data.get("project"))
        self.sheet.for_python(
            project.get("requires-python"), place=self.place("project", "requires-python")
        )
        if self.group is not None:
            self._group(self.group, ())
            return
        if not project and "poetry" in _table(self.data.get("tool")):
            self.problem(
                "tool", "poetry",
                what="dependencies in Poetry's own words are not read",
                remedy="Write them as `project.dependencies`, as Poetry 2 does.",
            )  # fmt: skip
        if "dependencies" in _list(project.get("dynamic")):
            self._dynamic("dependencies")
        self._requirements(project.get("dependencies"), "project", "dependencies")
        for extra in self.extras:
            self._extra(extra, ())

    def _dynamic(self, *key: str) -> None:
        """Dependencies that setuptools takes from files of requirements; of others a problem."""
        where = ("tool", "setuptools", "dynamic", *key)
        table: Mapping[str, Any] = self.data
        for part in where:
            table = _table(table.get(part))
        files = table.get("file")
        if not files:
            self.problem(
                "project", "dynamic",
                what="a program would have to be run to know the dependencies",
                remedy="Write them down as `project.dependencies`.",
            )  # fmt: skip
        for name in [files] if isinstance(files, str) else _list(files):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), str(name)))
            place = self.place(*where)
            text = self.sheet.text(path, named=place)
            if text is not None:
                lines = _Lines(sheet=self.sheet, seen=(path,))
                lines.take(path, text, into=self.sheet.python)

    def _requirements(self, listed: object, *key: str, seen: tuple[str, ...] = ()) -> None:
        for number, text in enumerate(_list(listed)):
            if isinstance(text, str):
                self._requirement(text, *key, number, seen=seen)

    def _requirement(self, text: str, *key: str | int, seen: tuple[str, ...]) -> None:
        into: list[str] = []
        parsed = self.sheet.requirement(text, place=self.place(*key), into=into)
        if parsed is None:
            return
        own = str(_table(self.data.get("project")).get("name", ""))
        if own and canonicalize_name(parsed.name) == canonicalize_name(own):
            # `all = ["mine[viz]"]` is how a project's extras hold each other
            for extra in sorted(parsed.extras):
                self._extra(extra, seen)
            return
        if self._has_source(parsed.name):
            return
        self.sheet.python.extend(into)

    def _has_source(self, name: str) -> bool:
        sources = _table(_table(_table(self.data.get("tool")).get("uv")).get("sources"))
        key = _named(sources, name)
        if key is None:
            return False
        self.problem(
            "tool", "uv", "sources", key,
            what=f"{name} has a source of its own, and {_NO_ADDRESS}",
            remedy="Take it from an index that uv's configuration names for all packages.",
        )  # fmt: skip
        return True

    def _extra(self, name: str, seen: tuple[str, ...]) -> None:
        extras = _table(_table(self.data.get("project")).get("optional-dependencies"))
        key = _named(extras, name)
        if key is None and "optional-dependencies" in _list(
            _table(self.data.get("project")).get("dynamic")
        ):
            self._dynamic("optional-dependencies", name)
        elif key is None:
            self.no_such("extra", name, extras, "project", "optional-dependencies")
        elif key not in seen:
            where = ("project", "optional-dependencies", key)
            self._requirements(extras[key], *where, seen=(*seen, key))

    def _group(self, name: str, seen: tuple[str, ...]) -> None:
        groups = _table(self.data.get("dependency-groups"))
        key = _named(groups, name)
        if key is None:
            self.no_such("dependency group", name, groups, "dependency-groups")
            return
        if key in seen:
            return
        for number, item in enumerate(_list(groups[key])):
            if isinstance(item, str):
                self._requirement(item, "dependency-groups", key, number, seen=())
            elif isinstance(included := _table(item).get("include-group"), str):
                self._group(included, (*seen, key))


class _UvLock(_Toml):
    """uv's lock: what its project asks for directly, and the version of each package of that."""

    def take(self) -> None:
        self.sheet.for_python(self.data.get("requires-python"), place=self.place("requires-python"))
        packages = [_table(item) for item in _list(self.data.get("package"))]
        root = next((n for n, package in enumerate(packages) if _is_root(package)), None)
        if root is None:
            self.problem(
                what="there is no project at its root that would ask for packages",
                remedy="Name the pyproject.toml of a member instead.",
            )
            return
        wanted = self._wanted(packages[root], root)
        for dependency in wanted:
            self.sheet.python.append(_requirement_of(dependency))
        for number in self._closure(wanted, packages):
            self._pin(packages[number], number, packages)

    def _wanted(self, root: Mapping[str, Any], number: int) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        if self.group is None:
            found += _dependencies(root)
            kinds = [("extra", "optional-dependencies", extra) for extra in self.extras]
        else:
            kinds = [("dependency group", "dev-dependencies", self.group)]
        for kind, table, name in kinds:
            there = _table(root.get(table))
            key = _named(there, name)
            if key is None:
                self.no_such(kind, name, there, "package", number)
            else:
                found += [_table(item) for item in _list(there[key])]
        own = root.get("name")
        return [item for item in found if item.get("name") not in {None, own}]

    def _closure(
        self, wanted: Iterable[Mapping[str, Any]], packages: Sequence[Mapping[str, Any]]
    ) -> list[int]:
        """The numbers of all packages that come in, in the lock's order."""
        by_name: dict[str, list[int]] = {}
        for number, package in enumerate(packages):
            by_name.setdefault(str(package.get("name")), []).append(number)
        seen: set[tuple[int, str]] = set()
        left = list(wanted)
        while left:
            dependency = left.pop()
            for number in by_name.get(str(dependency.get("name")), ()):
                package = packages[number]
                if dependency.get("version") not in {None, package.get("version")}:
                    continue
                for extra in ("", *map(str, _list(dependency.get("extra")))):
                    if (number, extra) not in seen:
                        seen.add((number, extra))
                        left += _dependencies(package, extra)
        return sorted({number for number, _ in seen})

    def _pin(
        self, package: Mapping[str, Any], number: int, packages: Sequence[Mapping[str, Any]]
    ) -> None:
        name, version = package.get("name"), package.get("version")
        if _is_root(package):
            return
        if "registry" not in _table(package.get("source")) or not isinstance(version, str):
            self.problem(
                "package", number, "source",
                what=f"{name} does not come from an index, and {_NO_ADDRESS}",
                remedy="Take it from an index, or leave it out.",
            )  # fmt: skip
            return
        markers = [str(marker) for marker in _list(package.get("resolution-markers"))]
        alone = sum(other.get("name") == name for other in packages) == 1
        where = "" if alone or not markers else f"; {' or '.join(f'({m})' for m in markers)}"
        self.sheet.requirement(
            f"{name}=={version}{where}",
            place=self.place("package", number) if where else f"{self.path}:1",
            into=self.sheet.constraints,
        )


def _is_root(package: Mapping[str, Any]) -> bool:
    source = _table(package.get("source"))
    return "." in {source.get("virtual"), source.get("editable"), source.get("directory")}


def _dependencies(package: Mapping[str, Any], extra: str = "") -> list[Mapping[str, Any]]:
    listed = (
        _table(package.get("optional-dependencies")).get(extra)
        if extra
        else package.get("dependencies")
    )
    return [_table(item) for item in _list(listed)]


def _requirement_of(dependency: Mapping[str, Any]) -> str:
    extras = [str(extra) for extra in _list(dependency.get("extra"))]
    shown = str(dependency["name"]) + (f"[{','.join(extras)}]" if extras else "")
    marker = dependency.get("marker")
    return str(Requirement(f"{shown}; {marker}" if marker else shown))


class _Pylock(_Toml):
    """PEP 751: every package at its version (https://packaging.python.org/specifications/pylock-toml/)."""

    def take(self) -> None:
        self.sheet.for_python(self.data.get("requires-python"), place=self.place("requires-python"))
        for extra in self.extras:
            if _named(dict.fromkeys(_list(self.data.get("extras"))), extra) is None:
                self.no_such("extra", extra, _list(self.data.get("extras")), "extras")
        groups = _list(self.data.get("dependency-groups"))
        if self.group is not None and _named(dict.fromkeys(groups), self.group) is None:
            self.no_such("dependency group", self.group, groups, "dependency-groups")
        for number, item in enumerate(_list(self.data.get("packages"))):
            self._package(_table(item), number)

    def _package(self, package: Mapping[str, Any], number: int) -> None:
        name, version = package.get("name"), package.get("version")
        directory = _table(package.get("directory"))
        if directory.get("path") in {".", "./"}:
            return  # the project itself
        marker = self._marker(str(package.get("marker", "")), number)
        if marker is None:
            return
        if not isinstance(version, str) or package.keys() & {"vcs", "directory", "archive"}:
            self.problem(
                "packages", number,
                what=f"{name} does not come from an index, and {_NO_ADDRESS}",
                remedy="Take it from an index, or leave it out.",
            )  # fmt: skip
            return
        self.sheet.requirement(
            f"{name}=={version}{f'; {marker}' if marker else ''}",
            place=self.place("packages", number) if marker else f"{self.path}:1",
            into=self.sheet.python,
        )

    def _marker(self, marker: str, number: int) -> str | None:
        """The marker without extras and groups; None where they leave the package out."""
        groups = [self.group] if self.group else _list(self.data.get("default-groups"))
        there = {"extras": self.extras, "dependency_groups": groups}
        if not _MARKED_BY.search(marker):
            return marker

        def decided(match: re.Match[str]) -> str:
            wanted = {canonicalize_name(name) for name in there[match["what"]]}
            return "True" if canonicalize_name(match["name"]) in wanted else "False"

        left = _simplified(_MARKED_BY.sub(decided, marker))
        if left == "?":
            self.problem(
                "packages", number, "marker",
                what="this marker is not understood",
                remedy="Write the lock for one selection of extras and groups alone.",
            )  # fmt: skip
        return None if left in {"False", "?"} else left.replace("True", "")


def _simplified(marker: str) -> str:
    """A marker with True and False in it as `True`, `False`, or a marker without; `?`: neither."""
    before = ""
    while marker != before:
        before = marker
        marker = re.sub(r"\(\s*(True|False)\s*\)", r"\1", marker)
        marker = re.sub(r"\b(True|False)\s+and\s+(True|False)\b", _both, marker)
        marker = re.sub(r"\bTrue\s+or\s+(True|False)\b|\bFalse\s+or\s+True\b", "True", marker)
        marker = re.sub(r"\bFalse\s+or\s+False\b", "False", marker)
        # `and` binds closer than `or`, so that these hold for all that stands on the other side
        marker = re.sub(r"^True\s+or\s+.+$|^.+\s+or\s+True$", "True", marker)
        marker = re.sub(r"^(.+?)\s+and\s+True$|^True\s+and\s+(.+)$", _rest, marker)
        marker = re.sub(r"^(.+?)\s+or\s+False$|^False\s+or\s+(.+)$", _rest, marker)
        if " or " not in marker and re.search(r"\bFalse\b", marker):
            marker = "False"
    marker = marker.strip()
    if marker in {"True", "False"}:
        return marker
    return "?" if re.search(r"\b(True|False)\b", marker) else marker


def _both(match: re.Match[str]) -> str:
    return "True" if match[1] == match[2] == "True" else "False"


def _rest(match: re.Match[str]) -> str:
    return match[1] or match[2]
