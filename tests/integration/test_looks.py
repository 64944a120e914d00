"""What is shown: on 80 columns, with and without colour, without Unicode, in a pipe, in CI."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.integration.jupbox_command import Laptop, MainJob
from tests.integration.terminal import on_a_terminal

pytestmark = [pytest.mark.box, pytest.mark.slow]


_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")
BOX = "workbox"
VERBS = (("--help",), ("up", "--help"), ("status", BOX), ("doctor", BOX),
         ("up", BOX))  # fmt: skip
OUR_OWN_CODES = {0, 1}  # the doctor of a test box has warnings


def seen(laptop: Laptop, *arguments: str) -> str:
    """All that a terminal of 80 columns was sent."""
    with on_a_terminal(laptop, *arguments) as terminal:
        assert terminal.wait() in OUR_OWN_CODES, terminal.shown
        return terminal.shown


def lines(shown: str) -> list[str]:
    """The lines that stay, as they look; what was redrawn is taken as drawn last."""
    plain = _ESCAPE.sub("", shown.replace("\r\n", "\n"))
    return [line.rpartition("\r")[2].rstrip() for line in plain.splitlines()]


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_nothing_is_wider_than_the_terminal_and_colour_can_be_turned_off(
    ada: MainJob, arguments: tuple[str, ...]
) -> None:
    shown = seen(ada.laptop.at(ada.laptop.folder, COLUMNS="80"), *arguments)
    # one word may be longer than a line: a URL, a path
    wide = [line for line in lines(shown) if cell_len(line) > 80 and " " in line.strip()[:60]]
    assert wide == []
    plain = seen(ada.laptop.at(ada.laptop.folder, NO_COLOR="1"), *arguments)
    assert _COLOUR.search(plain) is None
    assert _COLOUR.search(shown) is not None


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_a_terminal_without_unicode_gets_ascii(ada: MainJob, arguments: tuple[str, ...]) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    shown = seen(ada.laptop.at(ada.laptop.folder, **ascii_only), *arguments)
    assert shown.isascii()
    assert "\\u" not in shown
    assert "\\x" not in shown


@pytest.mark.parametrize("surroundings", [{}, {"CI": "true"}], ids=str)
@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_a_pipe_and_ci_get_plain_lines(
    ada: MainJob, arguments: tuple[str, ...], surroundings: dict[str, str]
) -> None:
    done = ada.laptop.at(ada.laptop.folder, **surroundings).jupbox(*arguments)
    assert done.code in OUR_OWN_CODES
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    if arguments[0] == "up" and arguments[1:] == (BOX,):
        assert "Nothing to do" in done.stdout
        # progress is no part of the result
        assert "Connecting" not in done.stdout


def test_a_reader_that_goes_away_is_no_traceback(ada: MainJob) -> None:
    command = f"{sys.executable} -m jupbox doctor {BOX} | head -n 1"
    done = ada.laptop.run("sh", "-c", command)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_the_readmes_pictures_are_all_there() -> None:
    readme = Path(__file__).resolve().parents[2] / "README.md"
    pictures = re.findall(r"\]\((tests/looks/[a-z]+\.svg)\)", readme.read_text())
    assert {"help", "up", "status", "doctor"} <= {Path(p).stem for p in pictures}
    for picture in pictures:
        assert (readme.parent / picture).read_text().startswith("<svg")
