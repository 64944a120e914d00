"""`jupbox.toml` -> Project: which boxes and image definitions there are.

The project's file, the user's own configuration and the definitions that ship come in as
texts; with none of the first two any ssh destination is a box (zero configuration).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from jupbox import assets, requirements, tables
from jupbox.errors import ConfigError, UnknownNameError
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
class ImageDefinition:
    """What a notebook environment holds, its `extends` chain flattened.

    `python` and `apt` are the union along the chain, the root of the chain first;
    `layers` keeps them apart, in the same order, so that images can share layers.
    `registry` says where built images are shared, and nothing of what is in them.
    Of kernels of the same name the one nearest to the image holds.
    """

    name: str
    python: tuple[str, ...]
    apt: tuple[str, ...]
    base: str
    requires_python: str | None
    shipped: bool
    layers: tuple[Layer, ...]
    kernels: tuple[Kernel, ...] = ()
    registry: str | None = None

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
    gpus: Literal["auto", "all", "none"] | int = "auto"
    mounts: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[int, ...] = ()
    group_add: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes; None is no limit."""
        return None if self.memory is None else tables.memory_bytes(self.memory)

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
class Project:
    """All images and boxes that a command may name.

    Attributes:
        root: the folder of `jupbox.toml`; None is zero configuration.
        personal: the names among `boxes` that come from the user's own configuration.
    """

    root: Path | None
    images: Mapping[str, ImageDefinition]
    boxes: Mapping[str, Box]
    network: Network
    personal: frozenset[str] = field(default_factory=frozenset)

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
    images = {name: _flatten(name, drafts) for name in drafts}
    _check_box_images(project, document, images)
    boxes = {
        **_boxes(user.boxes, user_folder),
        **_boxes(project.boxes, root or Path()),
    }
    bundle = user.network.ca_bundle
    return Project(
        root=root,
        images=MappingProxyType(images),
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

    table: ImageTable
    document: Document
    prefix: tuple[str, ...]
    shipped: bool = False
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

    def error(self, key: str | None, what: str, *, remedy: str) -> ConfigError:
        path = self.prefix if key is None else (*self.prefix, key)
        return self.document.error(path, what, remedy=remedy)


def _shipped_drafts(shipped: Mapping[str, str]) -> dict[str, _Draft]:
    drafts = {}
    for name, text in shipped.items():
        table, document = tables.read_tables(text, ImageTable, source=f"images/{name}/image.toml")
        drafts[name] = _Draft(table=table, document=document, prefix=(), shipped=True)
    return drafts


def _drafts(
    images: Mapping[str, ImageTable], document: Document, read: Reader
) -> dict[str, _Draft]:
    return {
        name: _Draft(table=table, document=document, prefix=("images", name), read=read)
        for name, table in images.items()
    }


def _flatten(name: str, drafts: Mapping[str, _Draft]) -> ImageDefinition:
    chain = list(reversed(list(_chain(name, drafts))))
    layers = tuple(
        Layer(
            name=part,
            python=_once(drafts[part].requirements.python),
            apt=_once(drafts[part].table.apt),
            shipped=drafts[part].shipped,
            constraints=_once(drafts[part].requirements.constraints),
        )
        for part in chain
    )
    definition = ImageDefinition(
        name=name,
        python=_once([item for layer in layers for item in layer.python]),
        apt=_once([item for layer in layers for item in layer.apt]),
        base=_nearest([drafts[part].table.base for part in chain]) or DEFAULT_BASE,
        requires_python=_nearest(
            [
                drafts[part].table.requires_python or drafts[part].requirements.requires_python
                for part in chain
            ]
        ),
        shipped=drafts[name].shipped,
        layers=layers,
        kernels=_kernels([drafts[part] for part in chain]),
        registry=_nearest([drafts[part].table.registry for part in chain]),
    )
    _check_server(definition, drafts[name])
    return definition


def _kernels(chain: list[_Draft]) -> tuple[Kernel, ...]:
    found = {name: kernel for draft in chain for name, kernel in draft.kernels.items()}
    return tuple(found[name] for name in sorted(found))


def _chain(name: str, drafts: Mapping[str, _Draft]) -> Iterator[str]:
    """`name` and what it extends, up to the root."""
    seen = [name]
    yield name
    while (parent := drafts[seen[-1]].table.extends) is not None:
        child = drafts[seen[-1]]
        if parent in seen:
            circle = " -> ".join([*seen[seen.index(parent) :], parent])
            raise child.error(
                "extends",
                f"leads back to itself: {circle}.",
                remedy="Let one of them extend no other.",
            )
        if parent not in drafts:
            raise child.error(
                "extends",
                f"names {parent!r}, and no image is called that.",
                remedy=tables.did_you_mean(parent, set(drafts) - {name}, kind="Images"),
            )
        seen.append(parent)
        yield parent


def _check_server(definition: ImageDefinition, draft: _Draft) -> None:
    """Stop an image that would build for minutes and then has nothing to start."""
    if any(package_name(item) in _SERVERS for item in definition.python):
        return
    raise draft.error(
        None,
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
            "gpus",
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
    if definition.base != DEFAULT_BASE:
        last["base"] = definition.base
    if definition.requires_python:
        last["requires-python"] = definition.requires_python
    if definition.registry:
        last["registry"] = definition.registry
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
    value = {
        "name": definition.name,
        "shipped": [layer.name for layer in definition.layers if layer.shipped],
        "images": image_tables(definition),
    }
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
            table=ImageTable.model_validate(table),
            document=document,
            prefix=(),
            shipped=name in value["shipped"],
        )
        for name, table in value["images"].items()
    }
    return _flatten(value["name"], drafts)


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
