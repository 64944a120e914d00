"""`jupbox.toml` with more packages in it: comments, order and style stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tomlkit
from tomlkit.items import Array

from jupbox.errors import ConfigError
from jupbox.project import package_name


def add_packages(
    text: str, *, image: str, python: Sequence[str] = (), apt: Sequence[str] = (),
    kernel: str | None = None,
) -> str:  # fmt: skip
    """The text of a `jupbox.toml` with packages added to one of its images.

    A package that is there already, with another version perhaps, is replaced where it stands.

    Args:
        text: of a file that is valid.
        image: the definition to add to; the text must have it.
        python: requirement strings.
        apt: Debian package names.
        kernel: one of the image's further kernels, to whose environment the requirements go.

    Raises:
        ConfigError: the text has no such definition or kernel.
    """
    document = tomlkit.parse(text)
    table = _table(document, "images", image)
    if table is None:
        raise ConfigError(
            f"jupbox.toml defines no image {image!r} to add to.",
            remedy=f'Write one: [images.my-{image}] with extends = "{image}", and have the box '
            f'use it by image = "my-{image}".',
        )
    if python:
        of_kernel = _table(table, "kernels", kernel) if kernel else table
        if of_kernel is None:
            raise ConfigError(
                f"images.{image} of jupbox.toml has no kernel {kernel!r}.",
                remedy=f"Write one: [images.{image}.kernels.{kernel}].",
            )
        _add(of_kernel, "python", python)
    if apt:
        _add(table, "apt", apt)
    return tomlkit.dumps(document)


def own_image(text: str, *, box: str, extends: str) -> tuple[str, str]:
    """The text with an image of the project's own for a box, and what it is called.

    A definition that ships cannot be added to; one that extends it can.

    Args:
        text: of a file that is valid and has the box.
        box: the box's name.
        extends: the definition that the box used so far.

    Raises:
        ConfigError: the text has no such box: it is one of the user's own configuration.
    """
    document = tomlkit.parse(text)
    table = _table(document, "boxes", box)
    if table is None:
        raise ConfigError(
            f"The box {box} is not in jupbox.toml, so no image of its own can be written for it.",
            remedy=f'Write one: [images.my-{extends}] with extends = "{extends}", and have the '
            f'box use it by image = "my-{extends}".',
        )
    images = document.setdefault("images", tomlkit.table(is_super_table=True))
    name = box if box not in images and box != extends else f"{box}-image"
    image = tomlkit.table()
    image["extends"] = extends
    image["python"] = tomlkit.array()
    images[name] = image
    table["image"] = name
    return tomlkit.dumps(document), name


def _table(container: Any, *path: str) -> Any | None:
    for key in path:
        if key not in container:
            return None
        container = container[key]
    return container


def _add(table: Any, key: str, items: Sequence[str]) -> None:
    if key not in table:
        table[key] = tomlkit.array()
    array: Array = table[key]
    for item in items:
        same = [n for n, there in enumerate(array) if package_name(there) == package_name(item)]
        if same:
            array[same[0]] = item
        else:
            array.append(item)
