"""`jupbox.toml` -> Project: which boxes and image definitions there are.

The project's file, the user's own configuration and the definitions that ship come in as
texts; with none of the first two any ssh destination is a box (zero configuration).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from packaging.specifiers import SpecifierSet

from jupbox import assets, requirements, tables
from jupbox.errors import ConfigError, UnknownNameError
from jupbox.repository import GitReference, GitSource, is_git, parse_reference
from jupbox.requirements import Reader, Requirements
from jupbox.tables import (
    DEFAULT_BASE,
    DEFAULT_IMAGE,
    BoxTable,
    Document,
    ImageTable,
    KernelTable,
    ProjectTables,
    UserTables,
)
from jupbox.tomltext import line_of

LOCAL: Final = "local"

PYTHON_OF_BASES: Final[Mapping[str, str]] = MappingProxyType(
    {DEFAULT_BASE: "3.13", "debian:bookworm-slim": "3.11"}
)
"""The Debian bases that `requires-python` chooses from, the preferred one first."""

_NAME_LENGTH: Final = 40
# each of them brings jupyter_server
_SERVERS: Final = frozenset({"jupyterlab", "jupyter-server", "notebook", "jupyter"})


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one definition of an `extends` chain adds by itself.

    Attributes:
        constraints: versions that hold wherever the package is needed, such as a file's pins.
    """

    name: str
    python: tuple[str, ...]
    apt: tuple[str, ...]
    shipped: bool = False
    constraints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A further Python environment of an image, with packages of its own."""

    name: str
    python: tuple[str, ...]
    display_name: str
    constraints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CopiedFile:
    """A file that an image has from a project's folder.

    Attributes:
        target: where it is in the image.
        path: where it is in the folder.
        sha256: its content's hash, 64 hex digits.
        source: the repository whose folder that is; None is the project's own, or was not kept.
    """

    target: str
    path: str
    sha256: str
    executable: bool
    source: GitSource | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class ImageDefinition:
    """What a notebook environment holds, its `extends` chain flattened.

    `python` and `apt` are the union along the chain, the root of the chain first;
    `layers` keeps them apart, in the same order, so that images can share layers.
    `registry` says where built images are shared, and nothing of what is in them.
    Of kernels, variables, settings and files of the same name the one nearest to the image holds.

    Attributes:
        env: (name, value), sorted.
        settings: (JupyterLab's plugin, its settings as JSON), sorted.
        files: by target, sorted.
        sources: the repositories along the chain; none where it was read from a label.
        run: shell commands at the end of the build; those of the chain's root first.
        reproducible: whether builds of it must give the same bytes; not, where one definition of
            the chain says so.
    """

    name: str
    python: tuple[str, ...]
    apt: tuple[str, ...]
    base: str
    requires_python: str | None
    shipped: bool
    layers: tuple[Layer, ...]
    kernels: tuple[Kernel, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    files: tuple[CopiedFile, ...] = ()
    sources: tuple[GitSource, ...] = field(default=(), compare=False)
    registry: str | None = None
    run: tuple[str, ...] = ()
    reproducible: bool = True

    @property
    def constraints(self) -> tuple[str, ...]:
        """The union along the chain."""
        return _once([item for layer in self.layers for item in layer.constraints])

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over all that decides what a lock resolves to.

        Neither names nor the order within a layer: renaming an image or sorting its
        requirements makes no lock stale. Of a layer that ships its name alone: two laptops
        with different versions of jupbox must not make each other's lock stale.
        """
        content: dict[str, object] = {
            "base": self.base,
            "requires-python": self.requires_python,
            "layers": [
                layer.name if layer.shipped else _sorted(layer.python, layer.apt, layer.constraints)
                for layer in self.layers
            ],
        }
        if self.kernels:  # only then: a lock of before there were any is not stale
            content["kernels"] = [
                [
                    kernel.name,
                    kernel.display_name,
                    *_sorted(kernel.python, kernel.constraints),
                ]
                for kernel in sorted(self.kernels, key=lambda kernel: kernel.name)
            ]
        files = [[file.target, file.sha256, file.executable] for file in self.files]
        further = {"env": self.env, "settings": self.settings, "files": files, "run": self.run}
        content |= {key: value for key, value in further.items() if value}
        if not self.reproducible:
            content["reproducible"] = False
        return _digest(content)

    @property
    def system_digest(self) -> str:
        """SHA-256 (hex) over what decides of base and Debian packages, as `digest` is."""
        layers = [
            layer.name if layer.shipped else sorted(set(layer.apt))
            for layer in self.layers
            if layer.shipped or layer.apt
        ]
        return _digest(
            {"base": self.base, "requires-python": self.requires_python, "layers": layers}
        )


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _sorted(*parts: tuple[str, ...]) -> list[list[str]]:
    """Each without its order; without the last where that is empty, as of before there was one."""
    *others, last = [sorted(set(part)) for part in parts]
    return [*others, last] if last else others


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """One's own certificate chain and key (PEM), relative to the current folder or absolute."""

    cert: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Box:
    """A named place where a notebook runs: a host, and how the notebook runs there.

    Attributes:
        mounts: as they are written; `tables.split_mount` takes them apart.
        env: (name, value), sorted.
    """

    name: str
    host: str
    image: str = DEFAULT_IMAGE
    build: Literal["box", "here"] = "box"
    files: str = "~/notebooks"
    expose: str = "tunnel"
    port: int | Literal["auto"] = 8888
    names: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    memory: str | None = None
    cpus: float | None = None
    shm_size: str | None = None
    cull_idle: str | None = None
    gpus: Literal["auto", "all", "none"] | int = "auto"
    mounts: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[int, ...] = ()
    keep_output: bool = True
    group_add: tuple[str, ...] = ()
    keep_releases: int = 3

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes; None is no limit."""
        return None if self.memory is None else tables.memory_bytes(self.memory)

    @property
    def cull_idle_seconds(self) -> int | None:
        """How long a kernel may be idle, in seconds; None for as long as it likes."""
        return None if self.cull_idle is None else tables.duration_seconds(self.cull_idle)

    @property
    def shared_memory_bytes(self) -> int | None:
        """The chosen size of /dev/shm in bytes; None where it follows from the memory."""
        return None if self.shm_size is None else tables.memory_bytes(self.shm_size)


@dataclass(frozen=True, kw_only=True)
class Network:
    """What the user's own network needs.

    Attributes:
        snapshots: address of an archive of old Debian packages, None where apt knows one.
    """

    ca_bundle: Path | None = None
    snapshots: str | None = None


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A `jupbox.toml` of another repository, and the commit that it is of."""

    text: str
    commit: str


class Outside(Protocol):
    """Where a definition gets what does not stand in its own file; asked when it is needed."""

    def definitions(self, reference: GitReference, *, image: str) -> Foreign:
        """The definitions of another repository.

        Args:
            reference: the repository and its revision.
            image: the project's own image that this is for, by whose lock the commit is pinned.
        """
        ...

    def file(self, path: str, *, target: str, source: GitSource | None) -> CopiedFile | None:
        """What a file of a project's folder holds; None if it is no file.

        Args:
            path: from that folder.
            target: where it is in the image.
            source: the repository whose folder that is; None is the project's own.
        """
        ...

    def text(self, path: str, *, source: GitSource) -> str | None:
        """A text file of another repository; None if it has none of that name."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """`Outside` for a definition that was read back: whole, with its files' hashes."""

    files: Mapping[str, CopiedFile]

    def definitions(self, reference: GitReference, *, image: str) -> Foreign:
        """See `Outside.definitions`: there is nothing left to look up."""
        raise ValueError(f"{image} extends {reference}")

    def file(self, path: str, *, target: str, source: GitSource | None) -> CopiedFile | None:
        """See `Outside.file`: as it was."""
        return self.files.get(target)

    def text(self, path: str, *, source: GitSource) -> str | None:
        """See `Outside.text`: there is nothing left to look up."""
        return None


class _Images(Mapping[str, ImageDefinition]):
    """Definitions by name, each put together when it is first asked for.

    What one of them needs from elsewhere is no matter of a command that does not use it.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], ImageDefinition]) -> None:
        self._names = tuple(names)
        self._make = make
        self._made: dict[str, ImageDefinition] = {}

    def __getitem__(self, name: str) -> ImageDefinition:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, kw_only=True)
class Project:
    """All images and boxes that a command may name.

    Attributes:
        root: the folder of `jupbox.toml`; None is zero configuration.
        images: by name; one that extends another repository's is looked up there when asked for.
        shipped: those of the names that ship with jupbox.
        personal: the names among `boxes` that come from the user's own configuration.
    """

    root: Path | None
    images: Mapping[str, ImageDefinition]
    boxes: Mapping[str, Box]
    network: Network
    personal: frozenset[str] = field(default_factory=frozenset)
    shipped: frozenset[str] = field(default_factory=frozenset)

    @property
    def shipped_images(self) -> dict[str, ImageDefinition]:
        """The images that ship with jupbox, by name."""
        return {name: self.images[name] for name in sorted(self.shipped)}

    def with_image(self, image: ImageDefinition) -> Project:
        """This project with `image` added, or put in the place of the one of its name."""
        names = dict.fromkeys((*self.images, image.name))
        images = _Images(names, lambda n: image if n == image.name else self.images[n])
        return replace(self, images=images, shipped=self.shipped - {image.name})

    def box(self, name: str | None) -> Box:
        """The box called `name`; with None the only one, or this machine's engine.

        Raises:
            UnknownNameError: no such box, or none was named and there are several.
        """
        if name is None:
            return self._only_box()
        if name in self.boxes:
            return self.boxes[name]
        if name == LOCAL:
            return _local_box()
        if self.root is None:
            return _destination_box(name)
        raise UnknownNameError(
            f"No box is called {name!r}.",
            remedy=tables.did_you_mean(name, {*self.boxes, LOCAL}, kind="Boxes"),
        )

    def _only_box(self) -> Box:
        # a team's box comes before one's personal ones
        names = sorted(set(self.boxes) - self.personal) or sorted(self.boxes)
        if not names:
            return _local_box()
        if len(names) == 1:
            return self.boxes[names[0]]
        raise UnknownNameError(
            "There are several boxes, and none was named.", remedy=f"Name one: {', '.join(names)}."
        )

    def image(self, name: str) -> ImageDefinition:
        """The image definition called `name`.

        Raises:
            UnknownNameError: no such image.
        """
        if name in self.images:
            return self.images[name]
        raise UnknownNameError(
            f"No image is called {name!r}.",
            remedy=tables.did_you_mean(name, self.images, kind="Images"),
        )


def _local_box() -> Box:
    return Box(name=LOCAL, host=LOCAL, port="auto")


def _destination_box(word: str) -> Box:
    """Any ssh destination as a box, for a command that has no `jupbox.toml`.

    Of several boxes there `destination/box` names one.
    """
    destination, _, name = word.partition("/") if "://" not in word else (word, "", "")
    if name and tables.NAME.fullmatch(name) and tables.is_destination(destination):
        return Box(name=name, host=destination, port="auto")
    destination = word
    if not tables.is_destination(destination):
        raise UnknownNameError(
            f"{destination!r} is neither a box nor an ssh destination.",
            remedy="Name it as in `ssh NAME`: a host, user@host, or a Host of ~/.ssh/config.",
        )
    return Box(name=box_name(destination), host=destination, port="auto")


def box_name(destination: str) -> str:
    """`alice@big.host` -> `alice-big-host`; what was cut short stays apart by a hash."""
    name = re.sub(r"[^a-z0-9_-]+", "-", destination.lower()).strip("-_")
    if name and name != LOCAL and len(name) <= _NAME_LENGTH:
        return name
    suffix = hashlib.sha256(destination.encode()).hexdigest()[:8]
    return f"{name[: _NAME_LENGTH - 9].rstrip('-_') or 'box'}-{suffix}"


def shipped_definitions() -> dict[str, str]:
    """The text of each definition that ships, by name."""
    paths = sorted(assets.folder("images").glob("*/image.toml"))
    return {path.parent.name: path.read_text(encoding="utf-8") for path in paths}


def parse_project(
    text: str | None,
    *,
    source: str,
    root: Path | None,
    user_text: str | None,
    user_source: str,
    shipped: Mapping[str, str],
    reader: Callable[[Path], Reader] = lambda _folder: _no_file,
    outside: Outside | None = None,
) -> Project:
    """The project that these texts describe.

    Args:
        text: `jupbox.toml`; None if there is none.
        source: its name for messages.
        root: its folder; None if there is none.
        user_text: the user's own configuration, in the same format plus `[network]`. A table
            of the project replaces the user's of the same name.
        user_source: the path of that file; its own relative paths start in its folder.
        shipped: the definitions that ship, name -> text of `image.toml`.
        reader: from a folder to what reads the files of it that `python` names.
        outside: where what definitions name beyond these texts comes from.

    Raises:
        ConfigError: a key or value that cannot be used, with file and line.
        UnknownNameError: a box of the project names an image that nothing defines.
    """
    user, user_document = tables.read_tables(user_text or "", UserTables, source=user_source)
    project, document = tables.read_tables(text or "", ProjectTables, source=source)
    user_folder = Path(user_source).parent
    drafts = {
        **_shipped_drafts(shipped),
        **_drafts(user.images, user_document, reader(user_folder)),
        **_drafts(project.images, document, reader(root or Path())),
    }
    beyond = _Beyond(shipped=_shipped_drafts(shipped), outside=outside)
    images = _Images(drafts, lambda name: _flatten(name, drafts, beyond))
    for name in drafts:
        if not _needs_outside(name, drafts):
            _ = images[name]  # what is wrong with it is said at once
    _check_box_images(project, document, images)
    boxes = {
        **_boxes(user.boxes, user_folder),
        **_boxes(project.boxes, root or Path()),
    }
    bundle = user.network.ca_bundle
    return Project(
        root=root,
        images=images,
        shipped=frozenset(name for name, draft in drafts.items() if draft.shipped),
        boxes=MappingProxyType(boxes),
        network=Network(
            ca_bundle=None if bundle is None else _from(user_folder, bundle),
            snapshots=user.network.snapshots,
        ),
        personal=frozenset(user.boxes) - frozenset(project.boxes),
    )


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A definition as one file has it, before `extends` is followed.

    Attributes:
        read: reads what `python` names.
    """

    name: str
    table: ImageTable
    document: Document
    prefix: tuple[str, ...]
    shipped: bool = False
    source: GitSource | None = None
    read: Reader = lambda _path: None

    @cached_property
    def requirements(self) -> Requirements:
        """What `python` comes to, with files in the place of their names.

        Raises:
            ConfigError: a file is not there, or asks for what cannot be had.
        """
        found = self._expanded(self.table.python, "python")
        return replace(found, constraints=(*self.table.constraints, *found.constraints))

    @cached_property
    def kernels(self) -> Mapping[str, Kernel]:
        """Its further environments, by name, in the same way.

        Raises:
            ConfigError: as for `requirements`.
        """
        return {name: self._kernel(name, table) for name, table in self.table.kernels.items()}

    def _kernel(self, name: str, table: KernelTable) -> Kernel:
        found = self._expanded(table.python, "kernels", name, "python")
        return Kernel(
            name=name,
            python=_once(found.python),
            display_name=table.display_name or name,
            constraints=_once((*table.constraints, *found.constraints)),
        )

    def _expanded(self, entries: list[str], *key: str) -> Requirements:
        if not any(map(requirements.names_file, entries)):
            return Requirements(python=tuple(entries))
        line = line_of(self.document.lines, (*self.prefix, *key))
        found = requirements.expand(entries, read=self.read, source=self.document.source, line=line)
        if found.problems:
            first, *others = found.problems
            more = f" (and {len(others)} more)" if others else ""
            raise ConfigError(f"{first}{more}.", remedy=first.remedy)
        return found

    @property
    def key(self) -> tuple[GitSource | None, bool, str]:
        """What tells it from every other draft."""
        return self.source, self.shipped, self.name

    def __str__(self) -> str:
        if self.source is None:
            return self.name
        source = self.source
        return str(GitReference(url=source.url, revision=source.revision, image=self.name))

    def error(self, what: str, *keys: str, remedy: str) -> ConfigError:
        """The error of the key below this definition, or of the whole of it."""
        return self.document.error((*self.prefix, *keys), what, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class _Beyond:
    """What the definitions of a file may name that does not stand in it."""

    shipped: Mapping[str, _Draft]
    outside: Outside | None


def _shipped_drafts(shipped: Mapping[str, str]) -> dict[str, _Draft]:
    drafts = {}
    for name, text in shipped.items():
        table, document = tables.read_tables(text, ImageTable, source=f"images/{name}/image.toml")
        drafts[name] = _Draft(name=name, table=table, document=document, prefix=(), shipped=True)
    return drafts


def _drafts(
    images: Mapping[str, ImageTable],
    document: Document,
    read: Reader,
    source: GitSource | None = None,
) -> dict[str, _Draft]:
    return {
        name: _Draft(
            name=name,
            table=table,
            document=document,
            prefix=("images", name),
            read=read,
            source=source,
        )
        for name, table in images.items()
    }


def _needs_outside(name: str, drafts: Mapping[str, _Draft]) -> bool:
    """Whether more than its own file is needed to put a definition together."""
    seen: set[str] = set()
    parent: str | None = name
    while parent is not None and parent in drafts and parent not in seen:
        seen.add(parent)
        if drafts[parent].table.files:
            return True
        parent = drafts[parent].table.extends
    return parent is not None and is_git(parent)


def _flatten(name: str, drafts: Mapping[str, _Draft], beyond: _Beyond) -> ImageDefinition:
    chain = list(reversed(list(_chain(name, drafts, beyond))))
    layers = tuple(
        Layer(
            name=layer,
            python=_once(draft.requirements.python),
            apt=_once(draft.table.apt),
            shipped=draft.shipped,
            constraints=_once(draft.requirements.constraints),
        )
        for layer, draft in zip(_layer_names(chain), chain, strict=True)
    )
    requires_python = _nearest(
        [draft.table.requires_python or draft.requirements.requires_python for draft in chain]
    )
    definition = ImageDefinition(
        name=name,
        python=_once([item for layer in layers for item in layer.python]),
        apt=_once([item for layer in layers for item in layer.apt]),
        base=_nearest([draft.table.base for draft in chain]) or base_with(requires_python),
        requires_python=requires_python,
        shipped=drafts[name].shipped,
        layers=layers,
        kernels=_kernels(chain),
        env=tuple(sorted({k: v for draft in chain for k, v in draft.table.env.items()}.items())),
        settings=_settings([draft.table for draft in chain]),
        files=_files(chain, beyond),
        sources=tuple(dict.fromkeys(draft.source for draft in chain if draft.source)),
        registry=_nearest([draft.table.registry for draft in chain]),
        run=tuple(command for draft in chain for command in draft.table.run),
        reproducible=_reproducible(chain),
    )
    _check_server(definition, drafts[name])
    return definition


def _kernels(chain: list[_Draft]) -> tuple[Kernel, ...]:
    found = {name: kernel for draft in chain for name, kernel in draft.kernels.items()}
    return tuple(found[name] for name in sorted(found))


def base_with(requires_python: str | None) -> str:
    """The base of a definition that names none: the first whose own Python fits."""
    fitting = (base for base, python in PYTHON_OF_BASES.items() if fits(python, requires_python))
    return next(fitting, DEFAULT_BASE)


def fits(python: str, requires_python: str | None) -> bool:
    """Whether a Python such as `3.13` is in a range; any is without one."""
    if requires_python is None:
        return True
    wanted = SpecifierSet(requires_python)
    # which patch a base has is not known here; the stable ones are among the last
    return any(version in wanted for version in (python, f"{python}.0", f"{python}.99"))


def _settings(chain: list[ImageTable]) -> tuple[tuple[str, str], ...]:
    """Each plugin's settings; of one that several set, each setting is the nearest's."""
    found: dict[str, dict[str, Any]] = {}
    for table in chain:
        for plugin, values in table.settings.items():
            found[plugin] = {**found.get(plugin, {}), **values}
    return tuple((plugin, settings_json(values)) for plugin, values in sorted(found.items()))


def settings_json(values: Mapping[str, Any]) -> str:
    """A plugin's settings as text; equal settings give equal texts."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(", ", ": "))


def _reproducible(chain: list[_Draft]) -> bool:
    """Whether all of a chain is; what its definitions say must go together.

    Raises:
        ConfigError: commands where all shall be, or one that shall be and extends what is not.
    """
    below: _Draft | None = None
    for draft in chain:
        if draft.table.reproducible is False:
            below = draft
        elif draft.table.reproducible and below:
            raise draft.error(
                f"is true, and {below}, which it extends, is not reproducible.",
                "reproducible",
                remedy="Leave the line out, or extend another image.",
            )
    running = [draft for draft in chain if draft.table.run]
    if running and below is None:
        raise running[0].error(
            "may give other bytes at each build, and its image must be the same everywhere.",
            "run",
            remedy="Add reproducible = false to it: no digest is recorded then, so neither `up` "
            "nor `verify` can tell whether two machines have the same image.",
        )
    return below is None


def _files(chain: list[_Draft], beyond: _Beyond) -> tuple[CopiedFile, ...]:
    nearest = {target: draft for draft in chain for target in draft.table.files}
    return tuple(_file(target, draft, beyond) for target, draft in sorted(nearest.items()))


def _file(target: str, draft: _Draft, beyond: _Beyond) -> CopiedFile:
    path = draft.table.files[target]
    found = beyond.outside and beyond.outside.file(path, target=target, source=draft.source)
    if found:
        return found
    folder = f"{draft.source.url}@{draft.source.revision}" if draft.source else "the project"
    raise draft.error(
        f"names {path}, and that is no file of {folder}.",
        "files",
        target,
        remedy="Mend the path, which starts at the folder of jupbox.toml, or add the file there.",
    )


def _chain(name: str, drafts: Mapping[str, _Draft], beyond: _Beyond) -> Iterator[_Draft]:
    """`name` and what it extends, up to the root; each name means what it does in its own file."""
    seen = [drafts[name]]
    yield drafts[name]
    while (parent := seen[-1].table.extends) is not None:
        child = seen[-1]
        if is_git(parent):
            reference = parse_reference(parent)
            drafts = _foreign_drafts(reference, child, beyond, image=name)
            draft = drafts[reference.image]
        elif parent in drafts:
            draft = drafts[parent]
        else:
            raise child.error(
                f"names {parent!r}, and no image is called that.",
                "extends",
                remedy=tables.did_you_mean(parent, set(drafts) - {child.name}, kind="Images"),
            )
        if draft.key in (keys := [one.key for one in seen]):
            circle = " -> ".join(str(one) for one in [*seen[keys.index(draft.key) :], draft])
            raise child.error(
                f"leads back to itself: {circle}.",
                "extends",
                remedy="Let one of them extend no other.",
            )
        seen.append(draft)
        yield draft


def _foreign_drafts(
    reference: GitReference, child: _Draft, beyond: _Beyond, *, image: str
) -> dict[str, _Draft]:
    """What another repository defines, and what ships: all that its definitions may extend."""
    if beyond.outside is None:
        raise child.error(
            f"names {reference}, and no other repository is looked at here.",
            "extends",
            remedy="Extend a definition of this file, or one that ships.",
        )
    found = beyond.outside.definitions(reference, image=image)
    where = f"{reference.url}@{reference.revision}:jupbox.toml"
    project, document = tables.read_tables(found.text, ProjectTables, source=where)
    source = GitSource(url=reference.url, revision=reference.revision, commit=found.commit)
    read = partial(beyond.outside.text, source=source)
    drafts = _drafts(project.images, document, read, source)
    if reference.image not in drafts:
        error = child.error(
            f"names {reference}, and that repository defines no such image.",
            "extends",
            remedy=tables.did_you_mean(reference.image, drafts, kind="Its images")
            if drafts
            else "Its jupbox.toml defines no image at all; look at the revision.",
        )
        raise UnknownNameError(error.message, remedy=error.remedy)
    return {**beyond.shipped, **drafts}


def _layer_names(chain: list[_Draft]) -> list[str]:
    """The chain's names, told apart where two repositories use the same."""
    *others, own = chain
    # what ships is known by its name, and the image is asked for by its own
    taken = {draft.name for draft in others if draft.shipped}
    if own.name in taken:
        raise own.error(
            f"extends the image {own.name} that ships, by way of another repository.",
            remedy="Give it another name.",
        )
    taken.add(own.name)
    names = []
    for draft in others:
        names.append(draft.name if draft.shipped else _free_name(draft, taken))
        taken.add(names[-1])
    return [*names, own.name]


def _free_name(draft: _Draft, taken: set[str]) -> str:
    repository = draft.source.name if draft.source else "own"
    longer = box_name(f"{repository}-{draft.name}")
    numbered = (box_name(f"{longer}-{number}") for number in itertools.count(2))
    names = itertools.chain((draft.name, longer), numbered)
    return next(name for name in names if name not in taken)


def _check_server(definition: ImageDefinition, draft: _Draft) -> None:
    """Stop an image that would build for minutes and then has nothing to start."""
    if any(package_name(item) in _SERVERS for item in definition.python):
        return
    raise draft.error(
        "holds no Jupyter server.",
        remedy=f'Add extends = "{DEFAULT_IMAGE}", or "jupyterlab" to its python.',
    )


def package_name(requirement: str) -> str:
    """The name of a Python requirement or a Debian package, as both compare them."""
    match = re.match(r"[A-Za-z0-9._+-]+", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else requirement


def _check_box_images(
    project: ProjectTables, document: Document, images: Mapping[str, ImageDefinition]
) -> None:
    # Only the project's own boxes: a personal one may name an image of another project.
    for name, table in project.boxes.items():
        if table.image is not None and table.image not in images:
            error = document.error(
                ("boxes", name, "image"),
                f"names {table.image!r}, and no image is called that.",
                remedy=tables.did_you_mean(table.image, images, kind="Images"),
            )
            raise UnknownNameError(error.message, remedy=error.remedy)


def _boxes(boxes: Mapping[str, BoxTable], folder: Path) -> dict[str, Box]:
    return {name: _box(name, table, folder) for name, table in boxes.items()}


def _box(name: str, table: BoxTable, folder: Path) -> Box:
    given: dict[str, Any] = {
        key: value
        for key in (
            "image",
            "build",
            "files",
            "expose",
            "port",
            "memory",
            "cpus",
            "shm_size",
            "cull_idle",
            "gpus",
            "keep_output",
            "keep_releases",
        )
        if (value := getattr(table, key)) is not None
    }
    tls = None
    if table.tls is not None:
        tls = TlsFiles(cert=_from(folder, table.tls.cert), key=_from(folder, table.tls.key))
    return Box(
        name=name,
        host=table.host or name,
        names=_once(table.names),
        tls=tls,
        mounts=_once(table.mounts),
        env=tuple(sorted(table.env.items())),
        ports=tuple(sorted(set(table.ports))),
        group_add=_once(table.group_add),
        **given,
    )


def _from(folder: Path, path: str) -> Path:
    """`path` from a file in `folder`; a leading ~ is left to whoever knows the user's home."""
    return Path(path) if path.startswith("~") else folder / path


# --- what a release says of itself, and back --------------------------------------------------
# Labels hold tables of the same format as the files, so that one validation reads both.


def image_tables(definition: ImageDefinition) -> dict[str, dict[str, Any]]:
    """A definition as `[images.*]` tables, one for each layer, the root of the chain first."""
    found: dict[str, dict[str, Any]] = {}
    parent = None
    for layer in definition.layers:
        table: dict[str, Any] = {"extends": parent} if parent else {}
        keys = ("python", "constraints", "apt")
        table |= {key: list(v) for key in keys if (v := getattr(layer, key))}
        found[layer.name], parent = table, layer.name
    last = found[definition.layers[-1].name]
    if not definition.base == base_with(definition.requires_python) == DEFAULT_BASE:
        last["base"] = definition.base
    if definition.requires_python:
        last["requires-python"] = definition.requires_python
    if definition.env:
        last["env"] = dict(definition.env)
    if definition.settings:
        last["settings"] = {plugin: json.loads(values) for plugin, values in definition.settings}
    if definition.files:
        last["files"] = {file.target: file.path for file in definition.files}
    if definition.registry:
        last["registry"] = definition.registry
    if definition.run:
        last["run"] = list(definition.run)
    if not definition.reproducible:
        last["reproducible"] = False
    if definition.kernels:
        last["kernels"] = {
            kernel.name: {
                "python": list(kernel.python),
                "display-name": kernel.display_name,
                **({"constraints": list(kernel.constraints)} if kernel.constraints else {}),
            }
            for kernel in definition.kernels
        }
    return found


def box_table(box: Box) -> dict[str, Any]:
    """A box as a `[boxes.*]` table: what is not the default, and no path of this laptop."""
    plain = Box(name=box.name, host=box.name)
    table: dict[str, Any] = {}
    for key, known in BoxTable.model_fields.items():
        value = getattr(box, key)
        if key in {"host", "tls"} or value == getattr(plain, key):
            continue
        if key == "env":
            value = dict(value)
        table[str(known.alias)] = list(value) if isinstance(value, tuple) else value
    return table


def differences(old: Box, new: Box) -> tuple[str, ...]:
    """Which keys differ between two states of a box, one line a key, for a person."""
    before, after = box_table(old), box_table(new)
    return tuple(
        f"{key}: {_shown(before.get(key))} -> {_shown(after.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def _shown(value: object) -> str:
    return "default" if value is None else json.dumps(value)


def definition_label(definition: ImageDefinition) -> str:
    """A definition as a label's value (JSON); `read_definition` reads it."""
    value: dict[str, Any] = {
        "name": definition.name,
        "shipped": [layer.name for layer in definition.layers if layer.shipped],
        "images": image_tables(definition),
    }
    if definition.files:
        value["files"] = {file.target: [file.sha256, file.executable] for file in definition.files}
    return json.dumps(value, separators=(",", ":"))


def read_definition(text: str) -> ImageDefinition:
    """The definition of a label's value.

    Raises:
        ValueError: not one that this jupbox reads.
    """
    value = json.loads(text)
    document = Document(source="label", lines={})
    drafts = {
        name: _Draft(
            name=name,
            table=ImageTable.model_validate(table),
            document=document,
            prefix=(),
            shipped=name in value["shipped"],
        )
        for name, table in value["images"].items()
    }
    files = {
        target: CopiedFile(
            target=target,
            path=value["images"][value["name"]]["files"][target],
            sha256=sha256,
            executable=executable,
        )
        for target, (sha256, executable) in value.get("files", {}).items()
    }
    beyond = _Beyond(shipped={}, outside=Recorded(files=files))
    return _flatten(value["name"], drafts, beyond)


def box_label(box: Box) -> str:
    """How a notebook runs on a box, as a label's value (JSON); `read_box` reads it."""
    return json.dumps(box_table(box), separators=(",", ":"))


def read_box(text: str, *, name: str, host: str) -> Box:
    """The box of a label's value.

    Raises:
        ValueError: not one that this jupbox reads.
    """
    return replace(_box(name, BoxTable.model_validate(json.loads(text)), Path()), host=host)


def _no_file(_path: str) -> str | None:
    return None


def _once(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def _nearest(values: list[str | None]) -> str | None:
    """The value closest to the image itself; the chain's root comes first."""
    return next((value for value in reversed(values) if value is not None), None)
