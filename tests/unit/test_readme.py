"""The README's reference says what the code says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer

from jupbox import errors, tables
from jupbox.cli import app

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def _classes(base: type[errors.JupboxError]) -> Iterator[type[errors.JupboxError]]:
    for child in base.__subclasses__():
        yield child
        yield from _classes(child)


def test_every_exit_code_stands_in_the_readme_with_its_meaning() -> None:
    """And no other does, but for Ctrl-C's."""
    expected = {(kind.exit_code, kind.meaning) for kind in _classes(errors.JupboxError)}
    found = {(int(code), text) for code, text in re.findall(r"^\| (\d+) \| (.*) \|$", README, re.M)}
    assert expected == {row for row in found if row[0] != 130}
    assert 130 in {code for code, _ in found}


def test_every_verb_stands_in_the_readme() -> None:
    """The table has each verb of `--help`, and no other."""
    group = typer.main.get_command(app)
    expected = set(group.commands)  # type: ignore[attr-defined]
    assert expected == set(re.findall(r"^\| `jupbox ([a-z]+)", README, re.M))


def test_every_key_of_the_configuration_stands_in_the_readme() -> None:
    """By the names that validation knows."""
    documented = set(re.findall(r"^\| `(?:images|boxes)\.NAME\.([a-z-]+)", README, re.M))
    known = {
        field.alias or name
        for table in (tables.ImageTable, tables.BoxTable)
        for name, field in table.model_fields.items()
    }
    assert known == documented


def test_no_placeholder_is_left() -> None:
    """Outputs and figures of the README are real ones."""
    assert re.findall(r"^@[A-Z]+@$", README, re.M) == []
