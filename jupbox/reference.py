"""The reference of every key, taken from the models that validate.

The table that README shows and the commented `jupbox.toml` that `init` writes come from here, so
neither can name a key that does not exist, nor leave one out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jupbox.project import LOCAL, Box, ImageDefinition, image_tables
from jupbox.tables import (
    BoxTable,
    ImageTable,
    NetworkTable,
    UserTables,
    example_line,
)
from jupbox.tomltext import dotted, quote

_WIDTH: Final = 100
# what stands in a path for a name that the user gives
_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"images": "NAME", "boxes": "NAME", "kernels": "KERNEL"}
)
_DEFAULT_FILES: Final = Box(name=LOCAL, host=LOCAL).files
_EXAMPLE_KERNEL: Final = "second"
_IMAGE_GROUPS: Final = (
    ("", ("extends",)),
    (
        "What is in it",
        ("python", "constraints", "apt", "kernels", "files", "env", "settings", "description"),
    ),
    ("What it stands on", ("base", "requires-python")),
    ("What no lock can hold", ("reproducible", "run")),
)
_BOX_GROUPS: Final = (
    ("", ("host", "image")),
    ("Where it is reached", ("expose", "port", "ports", "names", "tls")),
    ("What it may use", ("memory", "cpus", "shm_size", "gpus", "cull-idle")),
    ("What it sees of the host", ("files", "mounts", "env", "group_add")),
    ("What is kept", ("keep-output", "keep-releases")),
)


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of the configuration.

    Attributes:
        path: `images.NAME.kernels.KERNEL.python`; capitals stand for a name that one gives.
        default: what holds without it, for people; may hold Markdown's backticks.
        meaning: the same.
    """

    path: str
    default: str
    meaning: str


def all_keys() -> tuple[Key, ...]:
    """Every key of `jupbox.toml`, then those of the user's own configuration alone."""
    return tuple(_keys_of(UserTables, ()))


def _keys_of(model: type[BaseModel], prefix: tuple[str, ...]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        path = (*prefix, _alias(name, field))
        if field.description:
            yield Key(path=".".join(path), default=_shown(field), meaning=field.description)
        table, named = _table_in(field.annotation)
        if table is not None:
            yield from _keys_of(table, (*path, _NAMES[path[-1]]) if named else path)


def _alias(name: str, field: FieldInfo) -> str:
    return str(field.alias or name)


def _shown(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra["shown"]) if isinstance(extra, dict) else "none"


def _table_in(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The table that a key holds, if it holds one, and whether it holds several by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    parts = get_args(annotation)
    if get_origin(annotation) is dict:
        return _table_in(parts[1])[0], True
    return next((found for part in parts if (found := _table_in(part))[0]), (None, False))


def markdown() -> str:
    """The table of all keys for README."""
    mine = {f"network.{_alias(*item)}" for item in NetworkTable.model_fields.items()}
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]
    for key in all_keys():
        meaning = f"{key.meaning} (your own configuration alone)" if key.path in mine else None
        default = "`[]`" if key.default == "[]" else key.default
        lines.append(f"| `{key.path}` | {default} | {meaning or key.meaning} |")
    return "\n".join(lines)


# --- a new file -------------------------------------------------------------------------------


def commented_toml(
    *,
    box: str,
    host: str,
    images: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> str:
    """A new `jupbox.toml`: images, one box, and every key that is not set as a comment.

    A line that begins with `#` and a letter holds a key with an example; without the `#` it is
    valid where it stands; `run` only together with `reproducible = false`, which is above it.

    Args:
        box: the box's name.
        host: an ssh destination, or `local`.
        images: the `[images.*]` tables; the last gets the comments. Empty: an image that ships.
        settings: the `[boxes.*]` table, but for `host`.
    """
    lines = [
        f"# A notebook server and what is in it: `jupbox up {box}` makes it so.",
        "# What else there is stands behind a # with an example: take the # away, and change it.",
    ]
    *others, last = ["", *images]
    for name in others[1:]:
        lines += ["", f"[{dotted(('images', name))}]", *_lines(images[name])]
    if last:
        lines += [
            "",
            "# The environment. After a change: `jupbox lock`, and commit jupbox.lock too.",
            f"[{dotted(('images', last))}]",
            *_section(ImageTable, _IMAGE_GROUPS, images[last]),
        ]
    lines += [
        "",
        *_way_in(host, str(settings.get("files", _DEFAULT_FILES))),
        f"[{dotted(('boxes', box))}]",
        *_section(BoxTable, _BOX_GROUPS, {"host": host, **settings}),
    ]
    return "\n".join(lines) + "\n"


def _way_in(host: str, files: str) -> list[str]:
    """How one's own files come to the notebooks: by what everybody has."""
    if files == "volume":
        return [
            "# Where it runs. Notebooks lie in a volume there: upload other files in JupyterLab."
        ]
    copy, target = "cp", f"{files}/"
    if host != LOCAL:
        name = "HOST" if "://" in host else host  # scp and rsync write a port in another way
        copy, target = "scp", f"{name}:{files.removeprefix('~/')}/"
    return [
        f"# Where it runs. Notebooks lie in {files} there; other files get there as ever:",
        f"#   {copy} -r data {target}",
        f"#   rsync -a data {target}",
    ]


def _section(
    model: type[BaseModel],
    groups: tuple[tuple[str, tuple[str, ...]], ...],
    given: Mapping[str, Any],
) -> Iterator[str]:
    """The lines of a table: `given` as it is, all other keys as comments."""
    fields = {_alias(name, field): field for name, field in model.model_fields.items()}
    placed = {key for _, members in groups for key in members}
    others = tuple(key for key in fields if key not in placed)
    for title, members in (*groups, *((("Further", others),) if others else ())):
        if title:
            yield from ("", f"# --- {title}")
        for key in members:
            if key in given:
                yield from _lines({key: given[key]})
            else:
                yield from _commented(key, fields[key])


def _lines(table: Mapping[str, Any]) -> Iterator[str]:
    """A table's keys as TOML; tables by name as dotted keys, so that no header is needed."""
    for key, value in table.items():
        line = f"{key} = {_value(value)}"
        if isinstance(value, Mapping) and all(isinstance(v, Mapping) for v in value.values()):
            yield from (f"{dotted((key, name))} = {_value(v)}" for name, v in value.items())
        elif isinstance(value, list) and len(line) > _WIDTH:
            yield from (f"{key} = [", *(f"    {_value(item)}," for item in value), "]")
        else:
            yield line


def _value(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        inner = ", ".join(f"{dotted((key,))} = {_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)


def _commented(key: str, field: FieldInfo) -> Iterator[str]:
    examples, default = _examples(key, field), _shown(field).replace("`", "")
    meaning = f"{field.description}".replace("`", "")
    value = examples[0].partition(" = ")[2]
    if default not in {"none", "[]", value, value.strip('"')}:
        meaning += f" (default: {default})"
    yield from textwrap.wrap(meaning, _WIDTH, initial_indent="# ", subsequent_indent="# ")
    yield from (f"#{example}" for example in examples)


def _examples(key: str, field: FieldInfo) -> list[str]:
    """Lines that set the key; a table without a header, and in one line where that is short."""
    table, named = _table_in(field.annotation)
    if table is None:
        extra = field.json_schema_extra
        return [example_line(str(extra.get("form", key)) if isinstance(extra, dict) else key)]
    key = f"{key}.{_EXAMPLE_KERNEL}" if named else key
    inner = [example_line(_alias(*item)) for item in table.model_fields.items()]
    line = f"{key} = {{ {', '.join(inner)} }}"
    return [line] if len(line) < _WIDTH else [f"{key}.{one}" for one in inner]


# --- a definition that was read back ----------------------------------------------------------


def own_images(
    definition: ImageDefinition, shipped: Mapping[str, ImageDefinition]
) -> dict[str, dict[str, Any]]:
    """The `[images.*]` tables of a definition; what ships with this jupbox is left to `extends`.

    Args:
        definition: what was read back from a box.
        shipped: the images that ship with this jupbox, by name.
    """
    left = {layer.name for layer in definition.layers if layer.shipped and layer.name in shipped}
    own = {name: table for name, table in image_tables(definition).items() if name not in left}
    if own:
        last = own[definition.name]
        parent = shipped.get(last.get("extends", ""))
        if parent is not None and parent.base != definition.base:
            last["base"] = definition.base
        if parent is not None and "kernels" in last:
            inherited = {kernel.name for kernel in definition.kernels if kernel in parent.kernels}
            last["kernels"] = {n: k for n, k in last["kernels"].items() if n not in inherited}
    return own
