"""The tables of `jupbox.toml` and of the user's own configuration: text in, checked values out.

Every problem is reported as file, line, the key's full path and what it must be.
What the tables mean together (defaults, `extends`, which file wins) is `project`'s.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from jupbox.errors import ConfigError
from jupbox.tomltext import KeyPath, dotted, key_lines, line_of, quote, syntax_error

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

# `uv` reads requirements as lines of a requirements file. These characters are all that names,
# extras, versions and markers need, and leave out what makes an option, a comment, a variable,
# a path or an address of a line.
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-\[\],<>=!~ ;'\"()*+]*")
_OPTION: Final = re.compile(r"\s-")
# apt reads a trailing minus as "remove"
_APT: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](=[A-Za-z0-9][A-Za-z0-9.+~:-]*)?")
_IMAGE_REFERENCE: Final = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?/)?"  # registry
    r"[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*"
    r"(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_REQUIRES_PYTHON: Final = re.compile(
    r"\s*(~=|==|!=|<=|>=|<|>)\s*\d+(\.\d+)*(\.\*)?(\s*,\s*(~=|==|!=|<=|>=|<|>)\s*\d+(\.\d+)*(\.\*)?)*\s*"
)
# neither the user nor the host may begin with a minus: ssh would read an option
_DESTINATION: Final = re.compile(
    r"(ssh://)?([\w.+~\\][\w.+~@\\-]*@)?[\w\[:][\w.:%\[\]-]*/?", re.ASCII
)
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
_MEMORY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)
_MEMORY_FACTOR: Final = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# Measured: the server's imports alone hold 82 MB, those of one kernel 39 MB.
_LEAST_MEMORY: Final = 128 * 2**20


def memory_bytes(size: str) -> int:
    """A Docker size such as `16g` or `512m` in bytes.

    Raises:
        ValueError: not a size.
    """
    match = _MEMORY.fullmatch(size)
    if match is None:
        raise ValueError(f"not a size: {size!r}")
    return int(float(match[1]) * _MEMORY_FACTOR[match[2].lower()])


def is_destination(text: str) -> bool:
    """Whether `text` may be handed to ssh as the place to go to."""
    return len(text) <= 255 and _DESTINATION.fullmatch(text) is not None


def did_you_mean(name: str, known: Iterable[str], *, kind: str) -> str:
    """A remedy for an unknown name: the nearest known one, if any is near, and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    guess = f"Did you mean `{near[0]}`? " if near else ""
    return f"{guess}{kind}: {', '.join(names)}."


# --- what a value must be ---------------------------------------------------------------------

_FORMS: Final[Mapping[str, tuple[str, str]]] = {
    "apt": ("a list of Debian package names", 'apt = ["ffmpeg"]'),
    "base": ("the name of a Debian or Ubuntu image", 'base = "debian:trixie-slim"'),
    "boxes": ("a table of boxes", "[boxes.workbox]"),
    "ca-bundle": ("a path", 'ca-bundle = "~/company-ca.pem"'),
    "cert": ("a path", 'cert = "certificates/workbox.pem"'),
    "description": ("a string", 'description = "what the team works with"'),
    "expose": ('"tunnel", "public" or an IP address of the host', 'expose = "tunnel"'),
    "extends": ("the name of another image", 'extends = "minimal"'),
    "files": ('an absolute path, a path that begins with ~/, or "volume"', 'files = "~/notebooks"'),
    "host": ('an ssh destination or "local"', 'host = "me@machine.example.org"'),
    "image": ("the name of an image", 'image = "scipy"'),
    "images": ("a table of images", "[images.datasci]"),
    "key": ("a path", 'key = "certificates/workbox.key"'),
    "memory": ("a size of 128m or more", 'memory = "16g"'),
    "names": ("a list of host names and addresses", 'names = ["notebooks.example.org"]'),
    "network": ("a table", '[network] with ca-bundle = "~/company-ca.pem"'),
    "port": ('a number from 1 to 65535, or "auto"', "port = 8888"),
    "python": ("a list of Python requirements", 'python = ["numpy", "pandas>=2"]'),
    "requires-python": ("a range of Python versions", 'requires-python = ">=3.11"'),
    "tls": ("a table of two paths", 'tls = { cert = "box.pem", key = "box.key" }'),
}
_ELEMENTS: Final[Mapping[str, str]] = {
    "apt": "a Debian package name",
    "names": "a host name or an address",
    "python": "a Python requirement",
}


def _wrong(phrase: str = "") -> PydanticCustomError:
    """An unusable value; `phrase` replaces the usual "must be … , not …"."""
    return PydanticCustomError("jupbox", "{phrase}", {"phrase": phrase})


def _matching(pattern: re.Pattern[str]) -> AfterValidator:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise _wrong()
        return value

    return AfterValidator(check)


def _requirement(value: str) -> str:
    if "@" in value or "://" in value:
        raise _wrong("must name a package, not an address: a lock names versions, never a host")
    if _REQUIREMENT.fullmatch(value) is None or _OPTION.search(value):
        raise _wrong()
    return value


def _address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise _wrong() from None
    if "%" in value:  # a scope is a name of one machine's interface; Docker takes none
        raise _wrong()
    return str(address)


def _expose(value: str) -> str:
    if value in {"tunnel", "public"}:
        return value
    address = _address(value)
    if ipaddress.ip_address(address).is_unspecified:
        raise _wrong('means every address of the host: write expose = "public"')
    return address


def _host_or_address(value: str) -> str:
    if _HOST_NAME.fullmatch(value.lower()) and not value.replace(".", "").isdigit():
        return value.lower()
    return _address(value)


def _files(value: str) -> str:
    if value == "volume":
        return value
    if not value.isprintable() or not value.startswith(("/", "~/")):
        raise _wrong()
    if ".." in value.split("/"):
        raise _wrong("must not lead upwards with ..")
    if not value.strip("/"):
        raise _wrong("must be a folder for notebooks, not the whole host")
    return value


def _host(value: str) -> str:
    if not is_destination(value):
        raise _wrong()
    return value


def _memory(value: str) -> str:
    if _MEMORY.fullmatch(value) is None or memory_bytes(value) < _LEAST_MEMORY:
        raise _wrong()
    return value


def _path(value: str) -> str:
    if not value or not value.isprintable():
        raise _wrong()
    return value


_Name = Annotated[str, _matching(NAME)]
_Path = Annotated[str, AfterValidator(_path)]


# --- the tables -------------------------------------------------------------------------------


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=lambda field: field.replace("_", "-"),
    )


class ImageTable(_Table):
    """`[images.<name>]`, and the whole of a shipped `image.toml`."""

    description: str | None = None
    extends: _Name | None = None
    python: list[Annotated[str, AfterValidator(_requirement)]] = Field(default_factory=list)
    apt: list[Annotated[str, _matching(_APT)]] = Field(default_factory=list)
    base: Annotated[str, _matching(_IMAGE_REFERENCE)] | None = None
    requires_python: Annotated[str, _matching(_REQUIRES_PYTHON)] | None = None


class TlsTable(_Table):
    """`[boxes.<name>.tls]`: one's own certificate."""

    cert: _Path
    key: _Path


class BoxTable(_Table):
    """`[boxes.<name>]`; what is None was left to the default."""

    host: Annotated[str, AfterValidator(_host)] | None = None
    image: _Name | None = None
    files: Annotated[str, AfterValidator(_files)] | None = None
    expose: Annotated[str, AfterValidator(_expose)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | Literal["auto"] | None = None
    names: list[Annotated[str, AfterValidator(_host_or_address)]] = Field(default_factory=list)
    tls: TlsTable | None = None
    memory: Annotated[str, AfterValidator(_memory)] | None = None


class NetworkTable(_Table):
    """`[network]` of the user's own configuration."""

    ca_bundle: _Path | None = None


class ProjectTables(_Table):
    """A whole `jupbox.toml`."""

    images: dict[_Name, ImageTable] = Field(default_factory=dict)
    boxes: dict[_Name, BoxTable] = Field(default_factory=dict)


class UserTables(ProjectTables):
    """A whole user's configuration: as `jupbox.toml`, and what only that person's network needs."""

    network: NetworkTable = NetworkTable()


# --- from text to tables ----------------------------------------------------------------------

_Tables = TypeVar("_Tables", bound=_Table)


@dataclass(frozen=True, kw_only=True)
class Document:
    """Where a text came from and on which line its keys stand."""

    source: str
    lines: Mapping[KeyPath, int]

    def error(self, path: KeyPath, what: str, *, remedy: str) -> ConfigError:
        """The error of the key `path`: `what` follows the key's full path."""
        place = f"{self.source}:{line_of(self.lines, path)}"
        return ConfigError(f"{place}: {dotted(path)} {what}", remedy=remedy)


def read_tables(text: str, kind: type[_Tables], *, source: str) -> tuple[_Tables, Document]:
    """The tables of a configuration file, each value checked by itself.

    Raises:
        ConfigError: not TOML, an unknown key, a wrong type or a value that cannot be.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, what = syntax_error(error, text)
        raise ConfigError(
            f"{source}:{line}: this is not valid TOML: {what}.",
            remedy="Look at that line for a missing quote, bracket or equals sign.",
        ) from None
    document = Document(source=source, lines=key_lines(text))
    try:
        return kind.model_validate(data), document
    except ValidationError as error:
        problems = error.errors(include_url=False)
    raise _first_error(problems, data, kind, document)


def _first_error(
    problems: list[ErrorDetails], data: dict[str, Any], kind: type[_Table], document: Document
) -> ConfigError:
    """The problem that stands first in the file, and how many more there are."""
    described: dict[KeyPath, ConfigError] = {}
    # a misspelt key is named before the one that is missing for it
    for problem in sorted(problems, key=lambda problem: problem["type"] == "missing"):
        path = _written_path(problem["loc"], data)
        described.setdefault(path, _describe(problem, path, kind, document))
    first, *others = sorted(described, key=lambda path: line_of(document.lines, path))
    error = described[first]
    if not others:
        return error
    return ConfigError(f"{error.message} (and {len(others)} more)", remedy=error.remedy)


def _written_path(location: KeyPath, data: Any) -> KeyPath:
    """The part of pydantic's location that stands in the file, without its own tags."""
    path: KeyPath = ()
    for part in location:
        known = isinstance(data, dict) and part in data
        if not known and not (isinstance(data, list) and isinstance(part, int)):
            break
        data = data[part]
        path = (*path, part)
    return path


def _describe(
    problem: ErrorDetails, path: KeyPath, kind: type[_Table], document: Document
) -> ConfigError:
    if problem["type"] == "extra_forbidden":
        return _unknown_key(path, kind, document)
    if problem["type"] == "missing":
        lacking = str(problem["loc"][-1])
        return document.error(path, f"lacks `{lacking}`.", remedy=_example(lacking))
    if problem["loc"][-1] == "[key]":
        return document.error(
            path,
            "is not a name that can be used.",
            remedy="Use up to 40 of a-z, 0-9, - and _, a letter or digit first.",
        )
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    key, form = _form(path)
    phrase = problem["msg"] if problem["type"] == "jupbox" else ""
    what = phrase or f"must be {form}{_but_is(problem['input'])}"
    return document.error(path, f"{what}.", remedy=_example(key))


def _form(path: KeyPath) -> tuple[str, str]:
    """The key that decides what a value must be, and what that is."""
    if len(path) == 2 and path[0] in {"boxes", "images"}:  # any name, maybe that of a key
        return str(path[0]), "a table"
    if isinstance(path[-1], int):
        return str(path[-2]), _ELEMENTS[str(path[-2])]
    return str(path[-1]), _FORMS[path[-1]][0]


def _but_is(value: object) -> str:
    """The value for the message, unless it is long or may hold a credential."""
    if isinstance(value, str):
        return "" if "@" in value or len(value) > 60 else f", not {quote(value)}"
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    if isinstance(value, list):
        return ", not a list"
    return ", not a table" if isinstance(value, dict) else f", not {value}"


def _example(key: str) -> str:
    return f"For example: {_FORMS[key][1]}"


def _unknown_key(path: KeyPath, kind: type[_Table], document: Document) -> ConfigError:
    if path == ("network",):
        return document.error(
            path,
            "belongs in your own configuration file, not in a project's.",
            remedy="Move the table there: what your network needs, your teammates' may not.",
        )
    model, noun = _table_around(path, kind)
    keys = [str(field.alias) for field in model.model_fields.values()]
    what = f"is not a key of {noun}."
    return document.error(path, what, remedy=did_you_mean(str(path[-1]), keys, kind="Keys"))


def _table_around(path: KeyPath, kind: type[_Table]) -> tuple[type[_Table], str]:
    match path[:-1]:
        case ("images", _):
            return ImageTable, "an image"
        case ("boxes", _):
            return BoxTable, "a box"
        case ("boxes", _, "tls"):
            return TlsTable, "tls"
        case ("network",):
            return NetworkTable, "network"
        case _:
            return kind, "an image" if kind is ImageTable else "this file"
