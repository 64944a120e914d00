"""The tables of `jupbox.toml` and of the user's own configuration: text in, checked values out.

Every problem is reported as file, line, the key's full path and what it must be.
What the tables mean together (defaults, `extends`, which file wins) is `project`'s.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from jupbox.errors import ConfigError
from jupbox.repository import ReferenceProblem, is_git, parse_reference
from jupbox.requirements import names_file
from jupbox.tomltext import KeyPath, dotted, key_lines, line_of, quote, syntax_error

DEFAULT_BASE: Final = "debian:trixie-slim"
DEFAULT_IMAGE: Final = "minimal"

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
# the host is always named: Docker would take a name without one for its own registry's
_REGISTRY: Final = re.compile(
    r"(localhost(:\d+)?|[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)+(:\d+)?|[A-Za-z0-9-]+:\d+)"
    r"(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)+",
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
_DURATION: Final = re.compile(r"([1-9]\d{0,4})([mhd])", re.ASCII)
_DURATION_FACTOR: Final = {"m": 60, "h": 3600, "d": 86_400}
# shorter than a lunch is no idleness, and a bad connection would look like it
_LEAST_IDLE: Final = 600
_MOUNT: Final = re.compile(
    r"(?P<source>(?:/|~/)[^:]*):(?P<target>(?:/|~/?)[^:]*)(?::(?P<mode>ro|rw))?"
)
_SYSTEM: Final = frozenset(
    {"bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32",
     "opt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"}
)  # fmt: skip
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# what the server, its kernels and their user are found by
_OURS: Final = frozenset(
    {"HOME", "USER", "PATH", "SHELL", "VIRTUAL_ENV",
     "PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "OPENSSL_CONF"}
)  # fmt: skip
_ARCHIVE: Final = re.compile(r"https?://[A-Za-z0-9._~:/%\[\]-]+")
# as JupyterLab names them: package, colon, plugin
_PLUGIN: Final = re.compile(r"(@[a-z0-9._-]+/)?[A-Za-z0-9._-]+:[A-Za-z0-9._:-]+", re.ASCII)
# where a running container has something else: mounts, the user, the engine's own files
_NOT_COPIED: Final = (
    "dev", "home", "proc", "run", "sys", "tmp", "var/run", "etc/jupbox", "opt/jupbox",
    "etc/passwd", "etc/group", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/pip.conf",
    "etc/profile.d/jupbox.sh", "opt/env/image.lock",
)  # fmt: skip
OVERRIDES: Final = "/opt/env/share/jupyter/lab/settings/overrides.json"
"""Where JupyterLab reads what an image sets differently."""
_GROUP: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. @-]{0,255}", re.ASCII)
SERVER_PORT: Final = 8888
"""Where the server listens in the container."""
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


def duration_seconds(text: str) -> int:
    """A time such as `30m`, `12h` or `3d` in seconds.

    Raises:
        ValueError: not one.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time: {text!r}")
    return int(match[1]) * _DURATION_FACTOR[match[2]]


def size_text(size: int) -> str:
    """A number of bytes as the Docker size that says it shortest: 17179869184 -> `16g`."""
    for unit in ("t", "g", "m", "k"):
        if size % _MEMORY_FACTOR[unit] == 0:
            return f"{size // _MEMORY_FACTOR[unit]}{unit}"
    return f"{size}b"


@dataclass(frozen=True, kw_only=True)
class MountText:
    """A mount as it is written.

    Attributes:
        source: path on the host; may begin with ~/.
        target: path in the container; may begin with ~/.
        mode: `ro`, `rw`, or None where that is left to jupbox.
    """

    source: str
    target: str
    mode: str | None


def split_mount(text: str) -> MountText:
    """The parts of a checked `HOST:CONTAINER[:MODE]`."""
    match = _MOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a mount: {text!r}")
    return MountText(source=match["source"], target=match["target"], mode=match["mode"])


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
    "build": ('"box" or "here"', 'build = "here"'),
    "boxes": ("a table of boxes", "[boxes.workbox]"),
    "ca-bundle": ("a path", 'ca-bundle = "~/company-ca.pem"'),
    "cert": ("a path", 'cert = "certificates/workbox.pem"'),
    "constraints": ("a list of Python requirements", 'constraints = ["numpy<3"]'),
    "cpus": ("a number of processors above 0", "cpus = 4"),
    "cull-idle": ("a time of 10m or more: minutes, hours or days", 'cull-idle = "12h"'),
    "description": ("a string", 'description = "what the team works with"'),
    "display-name": ("a string", 'display-name = "Python (pandas 2)"'),
    "env": ("a table of variables and their texts", 'env = { OMP_NUM_THREADS = "8" }'),
    "expose": ('"tunnel", "public" or an IP address of the host', 'expose = "tunnel"'),
    "extends": (
        'the name of another image, or one of a repository: "git+https://…@revision#images.name"',
        'extends = "minimal"',
    ),
    "files": ('an absolute path, a path that begins with ~/, or "volume"', 'files = "~/notebooks"'),
    "image.files": (
        "a table of paths in the image and files of the project",
        'files = { "/opt/env/share/sites.csv" = "data/sites.csv" }',
    ),
    "gpus": ('"auto", "all", "none" or a number', 'gpus = "auto"'),
    "group_add": ("a list of groups of the host", 'group_add = ["lab"]'),
    "host": ('an ssh destination or "local"', 'host = "me@machine.example.org"'),
    "image": ("the name of an image", 'image = "scipy"'),
    "images": ("a table of images", "[images.datasci]"),
    "keep-output": ("true or false", "keep-output = false"),
    "kernels": ("a table of kernels", "[images.datasci.kernels.legacy]"),
    "key": ("a path", 'key = "certificates/workbox.key"'),
    "keep-releases": ("a number from 1 to 50", "keep-releases = 5"),
    "memory": ("a size of 128m or more", 'memory = "16g"'),
    "mounts": (
        'a list of "HOST:CONTAINER", possibly with :ro or :rw',
        'mounts = ["/data:/data:ro"]',
    ),
    "names": ("a list of host names and addresses", 'names = ["notebooks.example.org"]'),
    "network": ("a table", '[network] with ca-bundle = "~/company-ca.pem"'),
    "ports": ("a list of numbers from 1 to 65535", "ports = [8501]"),
    "port": ('a number from 1 to 65535, or "auto"', "port = 8888"),
    "python": ("a list of Python requirements", 'python = ["numpy", "pandas>=2"]'),
    "registry": (
        "a registry's host and a repository there",
        'registry = "registry.example.org/team/datasci"',
    ),
    "reproducible": ("true or false", "reproducible = false"),
    "requires-python": ("a range of Python versions", 'requires-python = ">=3.11"'),
    "run": ("a list of shell commands", 'run = ["python -m nltk.downloader -d /opt/nltk punkt"]'),
    "settings": (
        "a table of JupyterLab's plugins and their settings",
        'settings = { "@jupyterlab/apputils-extension:themes" = { theme = "JupyterLab Dark" } }',
    ),
    "shm_size": ("a size of 1m or more", 'shm_size = "8g"'),
    "snapshots": (
        "an http address",
        'snapshots = "http://snapshots.example.org/archive"',
    ),
    "tls": ("a table of two paths", 'tls = { cert = "box.pem", key = "box.key" }'),
}
# what is said of a name that is none
_NO_KEYS: Final[Mapping[str, str]] = {
    "env": "is no name of a variable",
    "image.files": "is no path of an image",
    "settings": "is no id of a JupyterLab plugin",
}
_ELEMENTS: Final[Mapping[str, str]] = {
    "apt": "a Debian package name",
    "constraints": "a Python requirement",
    "group_add": "a group's name or number",
    "mounts": '"HOST:CONTAINER" with absolute paths, possibly with :ro or :rw',
    "names": "a host name or an address",
    "ports": "a number from 1 to 65535",
    "python": "a Python requirement, or a file of the project that holds some",
    "run": "a shell command on one line",
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


def _extends(value: str) -> str:
    if not is_git(value):
        if NAME.fullmatch(value) is None:
            raise _wrong()
        return value
    try:
        parse_reference(value)
    except ReferenceProblem as problem:
        raise _wrong(str(problem)) from None
    return value


def _requirement_or_file(value: str) -> str:
    return value if names_file(value) else _requirement(value)


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


def _idle(value: str) -> str:
    if _DURATION.fullmatch(value) is None or duration_seconds(value) < _LEAST_IDLE:
        raise _wrong()
    return value


def _shared_memory(value: str) -> str:
    if _MEMORY.fullmatch(value) is None or memory_bytes(value) < 2**20:
        raise _wrong()
    return value


def _mount(value: str) -> str:
    match = _MOUNT.fullmatch(value)
    if match is None or not value.isprintable():
        raise _wrong()
    if ".." in re.split("[/:]", value):
        raise _wrong("must not lead upwards with ..")
    target = match["target"].rstrip("/") or "/"
    if target in {"/", "~"} or (target[0] == "/" and target.split("/")[1] in _SYSTEM):
        raise _wrong(f"must not cover {target} of the container; /data or ~/data are free")
    if f"{target}/".startswith("~/notebooks/"):
        raise _wrong("must not lie in the notebooks' folder: mount it elsewhere, and link to it")
    return value


def _variable(value: str) -> str:
    if _VARIABLE.fullmatch(value) is None:
        raise _wrong()
    if value in _OURS or value.startswith(("JUPYTER", "JUPBOX", "DOCKER")):
        raise _wrong("is set by jupbox itself")
    return value


def _target(value: str) -> str:
    parts = value.split("/")
    if parts[0] or len(parts) < 2 or not value.isprintable() or "\\" in value:
        raise _wrong("must be an absolute path")
    if not {"", ".", ".."}.isdisjoint(parts[1:]):
        raise _wrong("must be an absolute path to a file, with no . and .. in it")
    if value == OVERRIDES:
        raise _wrong("is what `settings` writes")
    if any(f"{value}/".startswith(f"/{taken}/") for taken in _NOT_COPIED):
        raise _wrong("is a place where the running server has something of its own")
    return value


def _source(value: str) -> str:
    if not value or not value.isprintable() or value.startswith("/"):
        raise _wrong()
    if not {"", ".", ".."}.isdisjoint(value.split("/")):
        raise _wrong("must be the path of a file from the project's folder, with no . and .. in it")
    # what was read back from a box is written to such a path
    if ".git" in value.lower().split("/") or value in {"jupbox.toml", "jupbox.lock"}:
        raise _wrong("must be no file of git's or of jupbox's own")
    return value


def _settings(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise _wrong("must hold texts, numbers, true, false, lists and tables alone") from None
    return value


def _kernel_name(value: str) -> str:
    if value in {"default", "python3"}:
        raise _wrong("is what the image's own environment is called")
    return value


def _text(value: str) -> str:
    if not value.isprintable():
        raise _wrong("must be a text on one line")
    return value


def _command(value: str) -> str:
    # each is a line of the file that the build reads them from
    if not value.isprintable() or not value.strip():
        raise _wrong()
    return value


def _free_port(value: int) -> int:
    if value == SERVER_PORT:
        raise _wrong("is the server's own; `port` says where that one is found")
    return value


def _path(value: str) -> str:
    if not value or not value.isprintable():
        raise _wrong()
    return value


_Name = Annotated[str, _matching(NAME)]
_Path = Annotated[str, AfterValidator(_path)]
Variable = Annotated[str, AfterValidator(_variable)]
"""The name of a variable that is free to be set."""
Text = Annotated[str, AfterValidator(_text)]
"""A text on one line."""
Command = Annotated[str, AfterValidator(_command)]
"""A shell command on one line."""
Target = Annotated[str, AfterValidator(_target)]
"""A path of an image at which a definition may put a file."""
Plugin = Annotated[str, _matching(_PLUGIN)]
"""A JupyterLab plugin's id."""
_Settings = Annotated[dict[str, Any], AfterValidator(_settings)]
_Source = Annotated[str, AfterValidator(_source)]


# --- the tables -------------------------------------------------------------------------------


# what Compose has a word for keeps it
_OF_COMPOSE: Final = frozenset({"shm_size", "group_add"})


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=lambda field: field if field in _OF_COMPOSE else field.replace("_", "-"),
    )


def _key(meaning: str, *, default: str = "none", form: str = "", **given: Any) -> Any:
    """A key of a table: `meaning` and the `default` as text are what the reference shows.

    `form` is its entry of _FORMS, where that of its name is another table's.
    """
    if "default_factory" not in given:
        given["default"] = None
    extra: dict[str, Any] = {"shown": default, **({"form": form} if form else {})}
    return Field(description=meaning, json_schema_extra=extra, **given)


class KernelTable(_Table):
    """`[images.<name>.kernels.<kernel>]`: a second Python environment in the same image."""

    python: list[Annotated[str, AfterValidator(_requirement_or_file)]] = _key(
        "requirements of this kernel's own environment; ipykernel and pip come by themselves",
        default="[]", default_factory=list,
    )  # fmt: skip
    display_name: Annotated[str, AfterValidator(_text)] | None = _key(
        "what JupyterLab's launcher calls it", default="the kernel's name"
    )
    constraints: list[Annotated[str, AfterValidator(_requirement)]] = _key(
        "versions that hold where this kernel's environment needs the package",
        default="[]", default_factory=list,
    )  # fmt: skip


class ImageTable(_Table):
    """`[images.<name>]`, and the whole of a shipped `image.toml`."""

    description: str | None = _key("for people")
    extends: Annotated[str, AfterValidator(_extends)] | None = _key(
        "another definition, whose packages come first; that of another repository as "
        "`git+https://HOST/TEAM/REPO@REVISION#images.NAME`, whose commit the lock holds"
    )
    python: list[Annotated[str, AfterValidator(_requirement_or_file)]] = _key(
        "requirement strings, and files of the project that hold some: `requirements.txt` (any "
        "`.txt`), `pyproject.toml` (with an extra `pyproject.toml[viz]`, a dependency group alone "
        "`pyproject.toml:dev`), `uv.lock` (the same two), `pylock.toml`; the project itself is "
        "not installed",
        default="[]", default_factory=list,
    )  # fmt: skip
    constraints: list[Annotated[str, AfterValidator(_requirement)]] = _key(
        "versions that hold wherever a package is needed, without asking for it",
        default="[]", default_factory=list,
    )  # fmt: skip
    apt: list[Annotated[str, _matching(_APT)]] = _key(
        "Debian package names, possibly `name=version`", default="[]", default_factory=list
    )
    base: Annotated[str, _matching(_IMAGE_REFERENCE)] | None = _key(
        "a Debian (tested) or Ubuntu (not tested) image",
        default=f"`{DEFAULT_BASE}`, or a Debian that has the Python of `requires-python`",
    )
    requires_python: Annotated[str, _matching(_REQUIRES_PYTHON)] | None = _key(
        "which Python: that of the base, else of another Debian base", default="any"
    )
    registry: Annotated[str, _matching(_REGISTRY)] | None = _key(
        "where its images are looked for before one is built, and where `up --push` puts them"
    )
    kernels: dict[Annotated[_Name, AfterValidator(_kernel_name)], KernelTable] = _key(
        "further Python environments in the same image, each a kernel with packages of its own",
        default_factory=dict,
    )
    env: dict[Variable, Text] = _key(
        "variables for kernels and terminals, where the box sets no other; no place for secrets",
        default_factory=dict,
    )
    settings: dict[Plugin, _Settings] = _key(
        "JupyterLab's settings where a user has chosen no others, by plugin, as its advanced "
        "settings editor shows them",
        default_factory=dict,
    )
    files: dict[Target, _Source] = _key(
        "files of the project to copy into the image: `{ PATH-IN-THE-IMAGE = PATH-HERE }`; "
        "of root, readable for all",
        form="image.files", default_factory=dict,
    )  # fmt: skip
    run: list[Command] = _key(
        "shell commands, each on one line and in a shell of its own, as root at the end of the "
        "build, with its network and the image's Python; those of what it extends come first; "
        "with `reproducible = false` alone",
        default="[]", default_factory=list,
    )  # fmt: skip
    reproducible: bool | None = _key(
        "whether a build must give the same bytes wherever and whenever it runs; `false` also "
        "takes packages that have no wheel (locking and building them runs their own code, and "
        "may need a compiler of `apt`) and the commands of `run`, and no digest is recorded then; "
        "what extends such an image is one, too",
        default="`true`",
    )


class TlsTable(_Table):
    """`[boxes.<name>.tls]`: one's own certificate."""

    cert: _Path = Field(
        description="your own certificate chain (PEM) instead of the box's CA; for a name that "
        "leads to the server, so with `expose`",
        json_schema_extra={"shown": "none"},
    )
    key: _Path = Field(description="its key", json_schema_extra={"shown": "none"})


class BoxTable(_Table):
    """`[boxes.<name>]`; what is None was left to the default."""

    host: Annotated[str, AfterValidator(_host)] | None = _key(
        "ssh destination, or `local`", default="the name"
    )
    image: _Name | None = _key(
        "an image of this file, or one that ships", default=f"`{DEFAULT_IMAGE}`"
    )
    build: Literal["box", "here"] | None = _key(
        'where its image is built: on the `"box"`, or `"here"` on this machine\'s engine, which '
        "sends the layers that the box lacks; the box then needs no network but ssh",
        default='`"box"`',
    )
    files: Annotated[str, AfterValidator(_files)] | None = _key(
        'the host\'s folder where JupyterLab opens, or `"volume"`', default="`~/notebooks`"
    )
    expose: Annotated[str, AfterValidator(_expose)] | None = _key(
        '`"public"`: all of the host\'s addresses; or one address', default='`"tunnel"`'
    )
    port: Annotated[int, Field(ge=1, le=65535)] | Literal["auto"] | None = _key(
        'or `"auto"`: the next free one, then always that (the default without a file)',
        default="`8888`",
    )
    names: list[Annotated[str, AfterValidator(_host_or_address)]] = _key(
        "further names and addresses for the certificate", default="[]", default_factory=list
    )
    tls: TlsTable | None = _key("your own certificate")
    memory: Annotated[str, AfterValidator(_memory)] | None = _key(
        'such as `"16g"`; half of it is shared memory; a change takes effect with no restart',
        default="no limit",
    )
    cpus: Annotated[float, Field(ge=0.01, le=4096)] | None = _key(
        "processors, such as `4` or `1.5`; a change takes effect with no restart",
        default="no limit",
    )
    shm_size: Annotated[str, AfterValidator(_shared_memory)] | None = _key(
        "size of `/dev/shm`, where workers of a data loader meet", default="half of the memory"
    )
    cull_idle: Annotated[str, AfterValidator(_idle)] | None = _key(
        'such as `"12h"` or `"3d"`: how long after the end of its last run a kernel that no '
        "browser or editor has open is shut down, and a terminal with nothing running in it",
        default="never",
    )
    gpus: Literal["auto", "all", "none"] | Annotated[int, Field(ge=1, le=1024)] | None = _key(
        '`"auto"`: all, when the engine has the NVIDIA runtime; `"all"`, a number, or `"none"`',
        default='`"auto"`',
    )
    keep_releases: Annotated[int, Field(ge=1, le=50)] | None = _key(
        "how many releases `rollback` can choose from, with the one that runs", default="`3`"
    )
    mounts: list[Annotated[str, AfterValidator(_mount)]] = _key(
        "`HOST:CONTAINER` with paths of the host; `:ro` or `:rw`, without it read-only unless the "
        "folder is yours",
        default="[]", default_factory=list,
    )  # fmt: skip
    env: dict[Variable, Text] = _key(
        "variables for kernels and terminals; no place for secrets", default_factory=dict
    )
    ports: list[Annotated[int, Field(ge=1, le=65535), AfterValidator(_free_port)]] = _key(
        "ports of dashboards in the container; on the box's loopback, and through `open`",
        default="[]", default_factory=list,
    )  # fmt: skip
    keep_output: bool | None = _key(
        "the server keeps what cells print while no page shows them, and puts it into the notebook",
        default="`true`",
    )
    group_add: list[Annotated[str, _matching(_GROUP)]] = _key(
        "further groups of the host, by name, for folders that only they may read",
        default="[]", default_factory=list,
    )  # fmt: skip


class NetworkTable(_Table):
    """`[network]` of the user's own configuration."""

    ca_bundle: _Path | None = _key(
        "the CA bundle of a network that inspects TLS",
        default="`SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` or `PIP_CERT`",
    )
    snapshots: Annotated[str, _matching(_ARCHIVE)] | None = _key(
        "an archive of old Debian packages, for locks whose versions have left the mirror; below "
        "it lie `debian/TIME` and `debian-security/TIME`",
        default="what the image's own apt knows (Debian 13 and newer)",
    )


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
    key, form = _form(path)
    if problem["loc"][-1] == "[key]" and key in _NO_KEYS and len(path) > 1:
        what = problem["msg"] if problem["type"] == "jupbox" else ""
        return document.error(path, f"{what or _NO_KEYS[key]}.", remedy=_example(key))
    if problem["loc"][-1] == "[key]":
        return document.error(
            path,
            f"{problem['msg']}."
            if problem["type"] == "jupbox" and problem["msg"]
            else "is not a name that can be used.",
            remedy="Use up to 40 of a-z, 0-9, - and _, a letter or digit first.",
        )
    phrase = problem["msg"] if problem["type"] == "jupbox" else ""
    what = phrase or f"must be {form}{_but_is(problem['input'])}"
    return document.error(path, f"{what}.", remedy=_example(key))


def _form(path: KeyPath) -> tuple[str, str]:
    """The key that decides what a value must be, and what that is."""
    if len(path) == 2 and path[0] in {"boxes", "images"}:  # any name, maybe that of a key
        return str(path[0]), "a table"
    if len(path) > 1 and path[-2] == "kernels":
        return "kernels", "a table"
    if found := _form_in_image(path[2:] if path[0] == "images" else path):
        return found
    if len(path) > 1 and path[-2] == "env":
        return "env", "a text"
    if isinstance(path[-1], int):
        return str(path[-2]), _ELEMENTS[str(path[-2])]
    return str(path[-1]), _FORMS[path[-1]][0]


def _form_in_image(path: KeyPath) -> tuple[str, str] | None:
    """`_form` of what an image alone has, or has in another form than a box."""
    match path:
        case ("files",):
            return "image.files", _FORMS["image.files"][0]
        case ("files", _, *_):
            return "image.files", "a path of the project's folder"
        case ("settings", _, *_):
            return "settings", "a table of settings"
        case _:
            return None


def _but_is(value: object) -> str:
    """The value for the message, unless it is long or may hold a credential."""
    if isinstance(value, str):
        return "" if "@" in value or len(value) > 60 else f", not {quote(value)}"
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    if isinstance(value, list):
        return ", not a list"
    return ", not a table" if isinstance(value, dict) else f", not {value}"


def example_line(key: str) -> str:
    """A line that sets a key to a value that it may have."""
    return _FORMS[key][1]


def _example(key: str) -> str:
    return f"For example: {example_line(key)}"


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
        case ("images", _, "kernels", _) | ("kernels", _):
            return KernelTable, "a kernel"
        case ("boxes", _):
            return BoxTable, "a box"
        case ("boxes", _, "tls"):
            return TlsTable, "tls"
        case ("network",):
            return NetworkTable, "network"
        case _:
            return kind, "an image" if kind is ImageTable else "this file"
