"""The lock: the exact versions and hashes of every image, and its text.

The text is TOML with one package a line, sorted, so that a review shows what changed. It
names versions and hashes, never the host that they came from. Resolving is `host.resolve`.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError, model_validator

from jupbox.errors import LockError
from jupbox.project import ImageDefinition, settings_json
from jupbox.repository import GitSource, parse_reference
from jupbox.tables import Command, Plugin, Target, Text, Variable
from jupbox.tomltext import dotted, key_lines, line_of, quote, syntax_error

SCHEMA: Final = 2
"""The format of the text; any other is refused."""

RECIPE: Final = 2
"""The Dockerfile templates' version: the same lock and recipe give the same image."""

Architecture = Literal["amd64", "arm64"]

_HEADER: Final = """\
# The exact versions and hashes of every image of jupbox.toml, written by `jupbox lock`.
# Commit it; do not edit it.
"""
_ANEW: Final = "Take it from version control again, or write it anew with `jupbox lock`."


@dataclass(frozen=True, kw_only=True)
class BaseLock:
    """The base image of one platform.

    Attributes:
        kind: `registry`: `digest` is that of the manifest; `rootfs`: of what the root filesystem
            holds (paths, modes, owners, times, contents).
        digest: `sha256:` and 64 hex digits.
        epoch: of a base made from packages: no file of it is younger, seconds since 1970.
        snapshot: of a base made from packages: the archive's time, as `AptPackage`'s platform has.
    """

    reference: str
    kind: Literal["registry", "rootfs"]
    digest: str
    epoch: int | None = None
    snapshot: str | None = None


@dataclass(frozen=True, kw_only=True)
class AptPackage:
    """A Debian package at its exact version.

    Attributes:
        architecture: may be `all`.
        sha256: of its file, 64 hex digits; empty where it is part of a base.
        layer: of the image, counted from 1: which definition of the `extends` chain brings it.
    """

    name: str
    version: str
    architecture: str
    sha256: str = ""
    layer: int = 1


@dataclass(frozen=True, kw_only=True)
class PythonPackage:
    """A Python package at its exact version.

    Attributes:
        marker: where it is installed (PEP 508); None is everywhere.
        hashes: of any file of that version that may be installed, each `sha256:` and 64 hex digits.
        layer: of the image, as an `AptPackage` has.
        index: the name of the index that it comes from, None for the first one.
        source: it may be built from its source distribution, which needs what no lock holds.
    """

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]
    layer: int = 1
    index: str | None = None
    source: bool = False


@dataclass(frozen=True, kw_only=True)
class InterpreterLock:
    """A CPython of its own, where the base has another.

    Attributes:
        version: such as `3.12.8`.
        file: the archive's name below a mirror, with the release that it is of.
        sha256: the archive's hash, 64 hex digits.
    """

    version: str
    file: str
    sha256: str

    def key(self, architecture: str) -> str:
        """What uv calls it, and the folder that it is in."""
        machine = {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
        return f"cpython-{self.version}-linux-{machine}-gnu"


@dataclass(frozen=True, kw_only=True)
class PlatformLock:
    """What holds for one architecture.

    Attributes:
        python_version: such as `3.13`.
        snapshot: the Debian archive's time, by which an archive of old packages finds this state:
            `20261123T080000Z`; empty where no archive said one.
        base_packages: what a base that was made from packages holds.
        apt: what is installed beyond the base.
        environment: digest of the image that was built from this; not part of the lock's own.
        interpreter: where that is not the base's own.
    """

    architecture: Architecture
    base: BaseLock
    python_version: str
    apt: tuple[AptPackage, ...]
    snapshot: str = ""
    base_packages: tuple[AptPackage, ...] = ()
    environment: str | None = None
    interpreter: InterpreterLock | None = None


@dataclass(frozen=True, kw_only=True)
class KernelLock:
    """A further Python environment of an image."""

    display_name: str
    python: tuple[PythonPackage, ...]


@dataclass(frozen=True, kw_only=True)
class FileLock:
    """A file of the project in the image.

    Attributes:
        sha256: its content's hash, 64 hex digits.
        mode: its permission bits.
    """

    target: str
    sha256: str
    mode: Literal["0644", "0755"]


@dataclass(frozen=True, kw_only=True)
class ImageLock:
    """One image's exact content.

    Attributes:
        definition: the digest of the definition that this was resolved from.
        system: the digest of its base and Debian packages alone.
        epoch: the time that files of the image carry, in seconds since 1970.
        uv: the installer itself.
        platforms: by architecture.
        kernels: by name.
        recipe: the Dockerfile templates' version that recorded digests hold for.
        sources: the repositories whose definitions it was resolved from, each at a commit.
        env: (name, value).
        settings: (JupyterLab's plugin, its settings as JSON).
        files: of the project; their contents are beside the lock, or in `sources`.
        run: shell commands at the end of the build.
        reproducible: whether builds must give the same bytes; else no digest is recorded.
    """

    name: str
    definition: str
    system: str
    epoch: int
    uv: PythonPackage
    python: tuple[PythonPackage, ...]
    platforms: Mapping[str, PlatformLock]
    kernels: Mapping[str, KernelLock] = field(default_factory=dict)
    recipe: int = RECIPE
    sources: tuple[GitSource, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    files: tuple[FileLock, ...] = ()
    run: tuple[str, ...] = ()
    reproducible: bool = True

    def digest(self) -> str:
        """SHA-256 (hex) over this image's part of the lock's text, recorded digests left out."""
        return hashlib.sha256(_image_text(self.unrecorded()).encode()).hexdigest()

    def unrecorded(self) -> ImageLock:
        """This lock without the digests of images that were built from it."""
        platforms = {
            key: replace(platform, environment=None) for key, platform in self.platforms.items()
        }
        return replace(self, platforms=MappingProxyType(platforms))

    def recorded(self, architecture: str) -> str | None:
        """The digest of the image that was built from this.

        None if none was by today's recipe, or if builds of it may differ.
        """
        platform = self.platforms.get(architecture)
        holds = self.recipe == RECIPE and self.reproducible
        return platform.environment if platform and holds else None

    def with_recorded(self, architecture: str, digest: str) -> ImageLock:
        """This lock with the digest of the image that was built from it."""
        platform = replace(self.platforms[architecture], environment=digest)
        platforms = {**self.platforms, architecture: platform}
        return replace(self, platforms=MappingProxyType(platforms))

    def only(self, architecture: str) -> ImageLock:
        """This lock for one architecture: what an image is built from, and named after.

        A teammate who locks for another one makes no image of this one old.
        """
        platforms = {key: part for key, part in self.platforms.items() if key == architecture}
        return replace(self, platforms=MappingProxyType(platforms))

    def merged(self, old: ImageLock | None) -> ImageLock:
        """This lock with what `old` has for other architectures.

        Digests that are recorded there fall where this one is another lock.
        """
        if old is None:
            return self
        same = replace(self, platforms={}).digest() == replace(old, platforms={}).digest()
        version = next(iter(self.platforms.values())).python_version
        others = {
            key: part if same else replace(part, environment=None)
            for key, part in old.platforms.items()
            if part.python_version == version and self.system == old.system
        }
        return replace(self, platforms=MappingProxyType({**others, **self.platforms}))

    @property
    def layers(self) -> int:
        """Of how many layers the image is, beside its kernels' and its base's."""
        python = [package.layer for package in self.python]
        apt = [package.layer for each in self.platforms.values() for package in each.apt]
        return max([*python, *apt], default=1)


@dataclass(frozen=True, kw_only=True)
class Lock:
    """The locks of all images of a project, by name."""

    images: Mapping[str, ImageLock] = field(default_factory=dict)

    def with_image(self, image: ImageLock) -> Lock:
        """This lock with `image` added, or put in the place of its last one."""
        return Lock(images=MappingProxyType({**self.images, image.name: image}))


def is_stale(lock: ImageLock, definition: ImageDefinition) -> bool:
    """Whether `definition` has changed since `lock` was resolved from it."""
    pinned = {(source.url, source.revision) for source in lock.sources}
    # of a label none are known, and what else it says is enough
    wanted = {(source.url, source.revision) for source in definition.sources}
    return lock.definition != definition.digest or not wanted <= pinned


@dataclass(frozen=True, kw_only=True)
class Change:
    """What differs between two locks of an image; None is: not there."""

    package: str
    before: str | None
    after: str | None


def changes(old: ImageLock | None, new: ImageLock | None) -> tuple[Change, ...]:
    """What differs between two locks of an image, sorted by a package's name."""
    before, after = (_versions(lock) if lock else {} for lock in (old, new))
    return tuple(
        Change(package=key, before=before.get(key), after=after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def differences(old: ImageLock, new: ImageLock) -> tuple[str, ...]:
    """What changes between two locks of an image, one line a package, for a person."""
    return tuple(_difference(change) for change in changes(old, new))


def _difference(change: Change) -> str:
    if change.before is None:
        return f"+ {change.package} {change.after}"
    if change.after is None:
        return f"- {change.package} {change.before}"
    return f"~ {change.package} {change.before} -> {change.after}"


def _versions(lock: ImageLock) -> dict[str, str]:
    """Each package's versions, by a name that says whose it is."""
    found: dict[str, list[str]] = {f"{lock.uv.name} (installer)": [lock.uv.version]}
    for package in lock.python:
        found.setdefault(package.name, []).append(package.version)
    for name, kernel in lock.kernels.items():
        for package in kernel.python:
            found.setdefault(f"{package.name} (kernel {name})", []).append(package.version)
    for platform in lock.platforms.values():
        machine = platform.architecture
        found.setdefault(f"base (apt, {machine})", []).append(platform.base.digest[:19])
        if platform.interpreter:
            found.setdefault(f"CPython ({machine})", []).append(platform.interpreter.version)
        for item in platform.apt:
            found.setdefault(f"{item.name} (apt, {machine})", []).append(item.version)
    return {name: ", ".join(dict.fromkeys(versions)) for name, versions in found.items()}


# --- to text ----------------------------------------------------------------------------------


def dump_lock(lock: Lock) -> str:
    """The text of `jupbox.lock`; equal locks give equal texts."""
    parts = [f"{_HEADER}schema = {SCHEMA}\n"]
    parts += [_image_text(lock.images[name]) for name in sorted(lock.images)]
    return "\n".join(parts)


def _image_text(image: ImageLock) -> str:
    lines = [
        f"[{dotted(('images', image.name))}]",
        f"definition = {quote(image.definition)}",
        f"system = {quote(image.system)}",
        f"recipe = {image.recipe}",
        f"epoch = {image.epoch}",
        f"uv = {_python_text(image.uv)}",
        *_array("python", (_python_text(package) for package in _by_name(image.python))),
    ]
    if not image.reproducible:
        lines.append("reproducible = false")
    lines += [*_source_lines(image), *_completing_lines(image)]
    for name in sorted(image.kernels):
        lines += ["", *_kernel_lines(image.name, name, image.kernels[name])]
    for architecture in sorted(image.platforms):
        lines += ["", *_platform_lines(image.name, image.platforms[architecture])]
    return "\n".join(lines) + "\n"


def _source_lines(image: ImageLock) -> list[str]:
    """The repositories, one a line; nothing without any."""
    by_name = sorted(image.sources, key=lambda source: (source.url, source.revision))
    lines = [_inline(url=s.url, revision=s.revision, commit=s.commit) for s in by_name]
    return _array("sources", lines) if lines else []


def _completing_lines(image: ImageLock) -> list[str]:
    """Variables, settings, files and commands, one a line; nothing without any."""
    arrays = {
        "env": [_inline(name=name, value=value) for name, value in sorted(image.env)],
        "settings": [_inline(plugin=name, values=text) for name, text in sorted(image.settings)],
        "files": [
            _inline(target=file.target, sha256=file.sha256, mode=file.mode)
            for file in sorted(image.files, key=lambda file: file.target)
        ],
        "run": [quote(command) for command in image.run],
    }
    return [line for key, lines in arrays.items() if lines for line in _array(key, lines)]


def _kernel_lines(image: str, name: str, kernel: KernelLock) -> list[str]:
    return [
        f"[{dotted(('images', image, 'kernels', name))}]",
        f"display-name = {quote(kernel.display_name)}",
        *_array("python", (_python_text(package) for package in _by_name(kernel.python))),
    ]


def _platform_lines(image: str, platform: PlatformLock) -> list[str]:
    base = platform.base
    base_text = _inline(
        reference=base.reference, kind=base.kind, digest=base.digest, epoch=base.epoch,
        snapshot=base.snapshot,
    )  # fmt: skip
    lines = [
        f"[{dotted(('images', image, 'platforms', platform.architecture))}]",
        f"base = {base_text}",
        f"python-version = {quote(platform.python_version)}",
    ]
    lines += _interpreter_lines(platform.interpreter)
    if platform.snapshot:
        lines.append(f"snapshot = {quote(platform.snapshot)}")
    if platform.environment:
        lines.append(f"environment = {quote(platform.environment)}")
    if platform.base_packages:
        lines += _array("base-packages", map(_apt_text, _sorted_apt(platform.base_packages)))
    return [*lines, *_array("apt", map(_apt_text, _sorted_apt(platform.apt)))]


def _sorted_apt(packages: Iterable[AptPackage]) -> list[AptPackage]:
    return sorted(packages, key=lambda package: (package.name, package.architecture))


def _apt_text(package: AptPackage) -> str:
    return _inline(
        name=package.name, version=package.version, architecture=package.architecture,
        layer=_layer(package.layer), sha256=package.sha256 or None,
    )  # fmt: skip


def _layer(number: int) -> int | None:
    return None if number == 1 else number


def _interpreter_lines(interpreter: InterpreterLock | None) -> list[str]:
    return [f"interpreter = {_inline(**asdict(interpreter))}"] if interpreter else []


def _by_name(packages: Iterable[PythonPackage]) -> list[PythonPackage]:
    return sorted(packages, key=lambda package: (package.name, package.marker or ""))


def _python_text(package: PythonPackage) -> str:
    head = _inline(
        name=package.name, version=package.version, marker=package.marker, index=package.index,
        layer=_layer(package.layer),
    ).removesuffix(" }")  # fmt: skip
    hashes = ", ".join(quote(item) for item in sorted(package.hashes))
    source = ", source = true" if package.source else ""
    return f"{head}{source}, hashes = [{hashes}] }}"


def _inline(**values: str | int | None) -> str:
    """An inline table of what is not None."""
    texts = {
        key: quote(value) if isinstance(value, str) else str(value)
        for key, value in values.items()
        if value is not None
    }
    return "{ " + ", ".join(f"{key} = {text}" for key, text in texts.items()) + " }"


def _array(key: str, lines: Iterable[str]) -> list[str]:
    return [f"{key} = [", *(f"    {line}," for line in lines), "]"]


# --- from text --------------------------------------------------------------------------------
# Strict about what a value may hold: all of it ends in a Dockerfile.

_Hash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}\z")]
_Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
_Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!_~:-]*\z")]
_Word = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+._-]*\z")]
_Marker = Annotated[str, Field(pattern=r"""^[A-Za-z0-9_.'"=<>!~ ()-]+\z""")]
_Snapshot = Annotated[str, Field(pattern=r"^[0-9]{8}T[0-9]{6}Z\z")]
_Layer = Annotated[int, Field(ge=1, le=99)]
_Index = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\z")]
_Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*\z")]

_ImageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}\z")]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=lambda name: name.replace("_", "-")
    )


class _BasePart(_Part):
    reference: _Reference
    kind: Literal["registry", "rootfs"]
    digest: _Hash
    epoch: Annotated[int, Field(ge=0)] | None = None
    snapshot: _Snapshot | None = None


class _BasePackagePart(_Part):
    name: _Word
    version: _Version
    architecture: _Word


class _AptPart(_BasePackagePart):
    layer: _Layer = 1
    sha256: _Hex


class _PythonPart(_Part):
    name: _Word
    version: _Version
    marker: _Marker | None = None
    layer: _Layer = 1
    index: _Index | None = None
    source: bool = False
    hashes: Annotated[list[_Hash], Field(min_length=1)]

    def value(self) -> PythonPackage:
        return PythonPackage(**{**self.model_dump(), "hashes": tuple(self.hashes)})


class _InterpreterPart(_Part):
    version: Annotated[str, Field(pattern=r"^3\.[0-9]{1,2}\.[0-9]{1,3}\z")]
    file: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._+-]*\z")
    ]
    sha256: _Hex


class _PlatformPart(_Part):
    base: _BasePart
    python_version: Annotated[str, Field(pattern=r"^3\.[0-9]{1,2}\z")]
    snapshot: _Snapshot | Literal[""] = ""
    environment: _Hash | None = None
    base_packages: list[_BasePackagePart] = []
    apt: list[_AptPart]
    interpreter: _InterpreterPart | None = None

    def value(self, architecture: Architecture) -> PlatformLock:
        packages = {
            key: tuple(AptPackage(**package.model_dump()) for package in getattr(self, key))
            for key in ("apt", "base_packages")
        }
        return PlatformLock(
            architecture=architecture,
            base=BaseLock(**self.base.model_dump()),
            python_version=self.python_version,
            snapshot=self.snapshot,
            environment=self.environment,
            **packages,
            interpreter=InterpreterLock(**self.interpreter.model_dump())
            if self.interpreter
            else None,
        )


class _KernelPart(_Part):
    display_name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+\z")]
    python: list[_PythonPart]

    def value(self) -> KernelLock:
        python = tuple(package.value() for package in self.python)
        return KernelLock(display_name=self.display_name, python=python)


class _SourcePart(_Part):
    url: str
    revision: str
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?\z")]

    @model_validator(mode="after")
    def _is_reference(self) -> _SourcePart:
        # all of it ends in a command line
        parse_reference(f"git+{self.url}@{self.revision}#images.any")
        return self

    def value(self) -> GitSource:
        return GitSource(url=self.url, revision=self.revision, commit=self.commit)


class _EnvPart(_Part):
    name: Variable
    value: Text


class _SettingsPart(_Part):
    plugin: Plugin
    values: Json[dict[str, Any]]


class _FilePart(_Part):
    target: Target
    sha256: _Hex
    mode: Literal["0644", "0755"]


class _ImagePart(_Part):
    definition: _Hex
    system: _Hex
    recipe: Annotated[int, Field(ge=1)]
    epoch: Annotated[int, Field(ge=0)]
    uv: _PythonPart
    python: list[_PythonPart]
    platforms: dict[Architecture, _PlatformPart] = {}
    kernels: dict[_ImageName, _KernelPart] = {}
    sources: list[_SourcePart] = []
    env: list[_EnvPart] = []
    settings: list[_SettingsPart] = []
    files: list[_FilePart] = []
    run: list[Command] = []
    reproducible: bool = True

    @model_validator(mode="after")
    def _promises_what_it_can(self) -> _ImagePart:
        of_kernels = [package for kernel in self.kernels.values() for package in kernel.python]
        built = any(package.source for package in (*self.python, *of_kernels))
        if self.uv.source or (self.reproducible and (self.run or built)):
            raise ValueError("what differs between builds, and reproducible")
        return self

    def value(self, name: str) -> ImageLock:
        platforms = {key: platform.value(key) for key, platform in self.platforms.items()}
        return ImageLock(
            name=name,
            definition=self.definition,
            system=self.system,
            recipe=self.recipe,
            epoch=self.epoch,
            uv=self.uv.value(),
            python=tuple(package.value() for package in self.python),
            platforms=MappingProxyType(cast("dict[str, PlatformLock]", platforms)),
            kernels=MappingProxyType({key: part.value() for key, part in self.kernels.items()}),
            sources=tuple(source.value() for source in self.sources),
            env=tuple((part.name, part.value) for part in self.env),
            settings=tuple((part.plugin, settings_json(part.values)) for part in self.settings),
            files=tuple(FileLock(**part.model_dump()) for part in self.files),
            run=tuple(self.run),
            reproducible=self.reproducible,
        )


class _LockPart(_Part):
    schema_: Annotated[int, Field(alias="schema")]
    images: dict[_ImageName, _ImagePart] = {}


def is_old(text: str) -> bool:
    """Whether a text is a lock in a format of before: it says too little for today's promises."""
    with suppress(tomllib.TOMLDecodeError):
        schema = tomllib.loads(text).get("schema")
        return isinstance(schema, int) and schema < SCHEMA
    return False


def load_lock(text: str, *, source: str) -> Lock:
    """The lock that a text of `dump_lock` describes.

    Args:
        text: the content of `jupbox.lock`.
        source: its name for messages.

    Raises:
        LockError: not a lock, damaged, or written by a newer jupbox.
    """
    data = _read(text, source)
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise LockError(
            f"{source} was written by a newer jupbox "
            f"(schema {schema}, this one reads up to {SCHEMA}).",
            remedy="Update jupbox on this machine.",
        )
    if isinstance(schema, int) and schema < SCHEMA:
        raise LockError(
            f"{source} was written by an older jupbox (schema {schema}, this one writes {SCHEMA}).",
            remedy="Write it anew with `jupbox lock`.",
        )
    try:
        part = _LockPart.model_validate(data)
    except ValidationError as error:
        location = error.errors(include_url=False)[0]["loc"]
    else:
        images = {name: image.value(name) for name, image in part.images.items()}
        return Lock(images=MappingProxyType(images))
    path = tuple(item for item in location if item != "[key]")
    line = line_of(key_lines(text), path)
    raise LockError(f"{source}:{line}: {dotted(path)} is not what a lock holds.", remedy=_ANEW)


def _read(text: str, source: str) -> dict[str, object]:
    conflict = next(
        (number for number, line in enumerate(text.splitlines(), 1) if line.startswith("<<<<<<< ")),
        None,
    )
    if conflict is not None:
        raise LockError(
            f"{source}:{conflict}: this file holds a merge conflict.",
            remedy="Take either side as it is, then run `jupbox lock`.",
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, what = syntax_error(error, text)
    raise LockError(f"{source}:{line}: this is not valid TOML: {what}.", remedy=_ANEW)
