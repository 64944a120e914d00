"""The README's reference says what the code says."""

from __future__ import annotations

import re

import pytest
import typer

from jupbox.cli import app
from tests import readme
from tests.readme import COMMAND, generated

README = readme.README.read_text(encoding="utf-8")


def test_the_tables_of_keys_and_errors_are_what_the_code_says() -> None:
    """And else the failure names the command that writes them."""
    assert generated(README) == README, f"run `{COMMAND}`"


def test_a_table_with_no_place_is_an_error() -> None:
    """A marker that somebody removed is no table that is right."""
    with pytest.raises(ValueError, match="errors"):
        generated(README.replace("<!-- errors -->", ""))


def test_every_verb_stands_in_the_readme() -> None:
    """The table has each verb of `--help`, and no other."""
    group = typer.main.get_command(app)
    expected = set(group.commands)  # type: ignore[attr-defined]
    assert expected == set(re.findall(r"^\| `jupbox ([a-z]+)", README, re.M))


def test_no_placeholder_is_left() -> None:
    """Outputs and figures of the README are real ones."""
    assert re.findall(r"^@[A-Z]+@$", README, re.M) == []
