"""Definitions whose `python` names files of the project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from jupbox.errors import ConfigError
from jupbox.project import (
    ImageDefinition,
    definition_label,
    image_tables,
    parse_project,
    read_definition,
)
from jupbox.requirements import Reader

SHIPPED = {"minimal": 'python = ["jupyterlab"]'}
TEXT = """
[images.own]
extends = "minimal"
python = ["six", "requirements.txt"]
"""
FILES = {"requirements.txt": "numpy>=2\n-c pins.txt\n", "pins.txt": "numpy==2.1.0\n"}


def image(text: str = TEXT, files: Mapping[str, str] = FILES, name: str = "own") -> ImageDefinition:
    def reader(folder: Path) -> Reader:
        assert folder in {Path("/team"), Path("/home/me")}
        return files.get if folder == Path("/team") else lambda path: "attrs"

    project = parse_project(
        text,
        source="jupbox.toml",
        root=Path("/team"),
        user_text='[images.mine]\nextends = "minimal"\npython = ["mine.txt"]\n',
        user_source="/home/me/config.toml",
        shipped=SHIPPED,
        reader=reader,
    )
    return project.image(name)


def test_a_definition_holds_what_the_files_say() -> None:
    found = image()
    assert found.python == ("jupyterlab", "six", "numpy>=2")
    assert found.constraints == ("numpy==2.1.0",)
    assert found.layers[0].constraints == ()


def test_a_personal_definitions_files_lie_beside_the_users_own_file() -> None:
    assert image(name="mine").python == ("jupyterlab", "attrs")


def test_files_and_the_same_written_out_are_the_same_definition() -> None:
    written = TEXT.replace('"requirements.txt"', '"numpy>=2"')
    assert image(f'{written}constraints = ["numpy==2.1.0"]\n').digest == image().digest


@pytest.mark.parametrize("name", FILES)
def test_the_digest_follows_what_a_file_means_not_how_it_is_written(name: str) -> None:
    meant = {**FILES, name: FILES[name].replace("numpy", "scipy")}
    assert image(files=meant).digest != image().digest
    written = {**FILES, name: f"# more\n\n{FILES[name]}"}
    assert image(files=written).digest == image().digest


def test_without_any_file_or_constraint_the_digest_is_what_it_ever_was() -> None:
    text = '[images.x]\nextends = "minimal"\npython = ["a", "b"]\napt = ["git"]\n'
    text += '[images.x.kernels.k]\npython = ["c"]\n'
    expected = "eb9f38f0b4eae51fee4da7092d2ab77d51c7ab5c7fe802d09ec6f6a0c9fca34c"
    assert image(text, name="x").digest == expected


def test_a_label_holds_no_file_so_that_who_has_none_can_adopt() -> None:
    text = f'{TEXT}[images.own.kernels.old]\npython = ["requirements.txt"]\n'
    found = image(text)
    assert found.kernels[0].python == ("numpy>=2",)
    assert found.kernels[0].constraints == ("numpy==2.1.0",)
    assert ".txt" not in definition_label(found)
    again = read_definition(definition_label(found))
    assert (again, again.digest) == (found, found.digest)
    assert image_tables(found)["own"]["constraints"] == ["numpy==2.1.0"]


def test_a_kernels_files_are_part_of_the_digest() -> None:
    text = f'{TEXT}[images.own.kernels.old]\npython = ["old.txt"]\n'
    digests = {
        image(text, {**FILES, "old.txt": old}).digest for old in ("a", "b", "a\n-c pins.txt")
    }
    assert len(digests) == 3


def test_the_python_that_files_want_holds_unless_the_definition_says_another() -> None:
    files = {"pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.12"\n'}
    text = '[images.own]\nextends = "minimal"\npython = ["pyproject.toml"]\n'
    assert image(text, files).requires_python == ">=3.12"
    assert image(f'{text}requires-python = ">=3.11"', files).requires_python == ">=3.11"


def test_what_a_file_cannot_have_is_an_error_with_its_line_and_how_many_there_are() -> None:
    files = {**FILES, "pins.txt": "six\n--pre\n-e .\n"}
    with pytest.raises(ConfigError) as caught:
        image(files=files)
    assert caught.value.message.startswith("pins.txt:2: --pre is not honoured")
    assert caught.value.message.endswith("(and 1 more).")


def test_a_file_that_is_not_there_is_an_error_with_the_line_that_names_it() -> None:
    with pytest.raises(ConfigError, match=r"^jupbox\.toml:4: requirements\.txt is not there"):
        image(files={})


def test_an_image_whose_file_brings_the_server_needs_no_other() -> None:
    text = '[images.own]\npython = ["requirements.txt"]\n'
    assert image(text, {"requirements.txt": "notebook>=7"}).python == ("notebook>=7",)


def test_constraints_are_requirements_and_no_files() -> None:
    with pytest.raises(ConfigError, match=r"constraints\[0\]"):
        image(f'{TEXT}constraints = ["a @ https://h/a"]\n')
