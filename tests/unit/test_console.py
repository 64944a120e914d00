"""What is printed, where, and what never is."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from jupbox.console import Console
from jupbox.errors import ConfirmationError, EngineError
from jupbox.host.stack import Credentials
from jupbox.secret import Secret

ESCAPE = "\x1b"
WORD = "correct horse battery staple"


class Stream(io.TextIOWrapper):
    """A standard stream; a terminal or not."""

    def __init__(self, *, encoding: str, errors: str, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


@dataclass
class Streams:
    out: Stream
    err: Stream

    @property
    def text(self) -> str:
        return self.out.text + self.err.text


Attach = Callable[..., Streams]


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Attach:
    """Give the process other standard streams, as Python makes them."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def make(*, encoding: str = "utf-8", terminal: bool = False) -> Streams:
        made = Streams(
            out=Stream(encoding=encoding, errors="strict", terminal=terminal),
            err=Stream(encoding=encoding, errors="backslashreplace", terminal=terminal),
        )
        monkeypatch.setattr(sys, "stdout", made.out)
        monkeypatch.setattr(sys, "stderr", made.err)
        return made

    return make


def say_everything(console: Console, text: object) -> None:
    console.plain(f"{text}")
    console.note(f"{text}")
    console.line(f"{text}")
    console.facts([("Name", f"{text}")])
    console.error(EngineError(f"{text}", remedy=f"{text}"))
    with console.stage(f"{text}") as stage:
        stage.detail(f"{text}")
        stage.log(f"{text}")


# --- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_secret_is_printed_by_any_way(attach: Attach, verbose: bool, terminal: bool) -> None:
    streams = attach(terminal=terminal)
    secret = Secret(WORD)
    credentials = Credentials(leaf_pem=b"", authority_pem=b"", key_pem=secret, password_hash=secret)
    say_everything(Console(verbose=verbose), secret)
    say_everything(Console(verbose=verbose), credentials)
    say_everything(Console(verbose=verbose), [secret, {"key": secret}])
    assert "<secret>" in streams.text
    assert "horse" not in streams.text


def test_a_secret_is_no_json(attach: Attach) -> None:
    streams = attach()
    with pytest.raises(TypeError):
        Console().json({"password": Secret(WORD)})
    assert "horse" not in streams.text


# --- where things go --------------------------------------------------------------------------


def test_results_go_to_standard_output_and_all_else_to_standard_error(attach: Attach) -> None:
    streams = attach()
    console = Console()
    console.line("result")
    console.facts([("URL", "https://localhost:8888/lab"), ("Certificate", "fine")])
    console.plain("progress")
    console.note("note")
    console.error(EngineError("wrong", remedy="remedy"))
    assert streams.out.text == (
        "result\n  URL          https://localhost:8888/lab\n  Certificate  fine\n"
    )
    assert streams.err.text == "progress\n! note\n✗ wrong\n  remedy\n"


def test_json_is_json_and_nothing_else(attach: Attach) -> None:
    streams = attach()
    Console().json({"state": "running", "names": ["jürgen"]})
    assert json.loads(streams.out.text) == {"state": "running", "names": ["jürgen"]}


def test_an_error_is_one_line_and_its_remedy_another(attach: Attach) -> None:
    streams = attach()
    long = "word " * 100
    Console().error(EngineError(f"first\nsecond\r\n{long}", remedy="do\nthis"))
    assert streams.err.text.splitlines() == [f"✗ first second {long.strip()}", "  do this"]


def test_brackets_are_text_and_no_markup(attach: Attach) -> None:
    streams = attach(terminal=True)
    Console().line("pip install [bold]x[/bold] jupyter[all] :smile:")
    assert "[bold]x[/bold] jupyter[all] :smile:" in streams.out.text


# --- off a terminal ---------------------------------------------------------------------------


def test_off_a_terminal_everything_is_plain_lines(attach: Attach) -> None:
    streams = attach()
    say_everything(Console(), "text")
    assert ESCAPE not in streams.text
    assert "\r" not in streams.text


def test_off_a_terminal_a_stage_is_its_lines(attach: Attach) -> None:
    streams = attach()
    with Console().stage("Building") as stage:
        stage.detail("installing")
        stage.log("the program's own words")
    first, second, third = streams.err.text.splitlines()
    assert (first, second) == ("Building ...", "  installing")
    assert third.startswith("✓ Building (")
    assert third.endswith(" s)")


def test_verbose_shows_the_programs_own_words(attach: Attach) -> None:
    streams = attach(terminal=True)
    with Console(verbose=True).stage("Building") as stage:
        stage.log("the program's own words")
    assert "the program's own words" in streams.err.text


@pytest.mark.parametrize("terminal", [False, True])
def test_a_stage_that_fails_is_never_ticked_off(attach: Attach, terminal: bool) -> None:
    streams = attach(terminal=terminal)
    with pytest.raises(EngineError), Console().stage("Building"):
        raise EngineError("wrong", remedy="remedy")
    assert "✓" not in streams.err.text


# --- on a terminal ----------------------------------------------------------------------------


def test_on_a_terminal_a_stage_shows_its_detail_and_the_time(attach: Attach) -> None:
    streams = attach(terminal=True)
    with Console().stage("Building") as stage:
        stage.detail("installing Debian packages")
    assert "Building: installing Debian packages" in streams.err.text
    assert "0:00:00" in streams.err.text


def test_an_error_is_red(attach: Attach) -> None:
    streams = attach(terminal=True)
    Console().error(EngineError("wrong", remedy="remedy"))
    assert f"{ESCAPE}[1;31m✗ wrong{ESCAPE}[0m" in streams.err.text


def test_no_color_is_obeyed(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = attach(terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console()
    console.note("note")
    console.error(EngineError("wrong", remedy="remedy"))
    assert f"{ESCAPE}[31m" not in streams.err.text
    assert f"{ESCAPE}[1;31m" not in streams.err.text
    assert f"{ESCAPE}[33m" not in streams.err.text


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_without_unicode_gets_words_it_can_show(
    attach: Attach, encoding: str, terminal: bool
) -> None:
    streams = attach(encoding=encoding, terminal=terminal)
    say_everything(Console(), "/home/jürgen/📓 → λ")
    shown = re.sub(rf"{ESCAPE}\[[0-9;]*m", "", streams.err.text)
    assert "x /home/j" in shown
    assert "ok /home/j" in shown
    assert "/home/j" in streams.out.text


def test_a_checklist_fits_a_terminal_and_is_one_line_each_elsewhere(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    disk = ("warning", "disk", "long [words] " * 12, "Do " * 40)
    parts = [("box", [disk, ("ok", "ssh", "Fine", "")])]
    streams = attach(terminal=True)
    Console().checklist(parts)
    shown = re.sub(rf"{ESCAPE}\[[0-9;]*m", "", streams.out.text).splitlines()
    assert max(len(line) for line in shown) <= 80
    assert shown[0] == "box"
    assert shown[1].startswith("  ! disk  long [words]")
    assert shown[-1] == "  ✓ ssh   Fine"
    streams = attach(encoding="ascii")
    Console().checklist(parts)
    title, sentence, remedy, ssh = streams.out.text.splitlines()
    assert (title, ssh) == ("box", "  ok ssh   Fine")
    assert sentence.startswith("  !  disk  long")
    assert remedy.startswith("           -> Do Do")


# --- questions --------------------------------------------------------------------------------


class Keyboard(io.StringIO):
    def __init__(self, typed: str, *, terminal: bool = True) -> None:
        super().__init__(typed)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_yes_beforehand_asks_nothing(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = attach()
    monkeypatch.setattr(sys, "stdin", Keyboard("", terminal=False))
    Console().confirm("Do it?", yes=True)
    assert streams.text == ""


@pytest.mark.parametrize("typed", ["y\n", "Y\n", "yes\n", " yes \n"])
def test_a_yes_goes_on(attach: Attach, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    streams = attach()
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    Console().confirm("Do it?", yes=False)
    assert "Do it? [y/N]" in streams.err.text


@pytest.mark.parametrize("typed", ["n\n", "\n", "", "perhaps\n"])
def test_anything_else_stops(attach: Attach, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    attach()
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    with pytest.raises(ConfirmationError):
        Console().confirm("Do it?", yes=False)


def test_where_nobody_can_answer_the_remedy_is_a_flag(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach()
    monkeypatch.setattr(sys, "stdin", Keyboard("y\n", terminal=False))
    with pytest.raises(ConfirmationError) as caught:
        Console().confirm("Do it?", yes=False)
    assert "--yes" in caught.value.remedy


@pytest.mark.parametrize(
    ("typed", "answer"), [("bigbox\n", "bigbox"), ("  bigbox \n", "bigbox"), ("\n", "workbox")]
)
def test_an_empty_answer_is_the_default(
    attach: Attach, monkeypatch: pytest.MonkeyPatch, typed: str, answer: str
) -> None:
    streams = attach()
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    assert Console().ask("Which host", default="workbox", remedy="Name it.") == answer
    assert streams.err.text == "Which host [workbox]: "


def test_without_a_default_it_is_asked_again(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = attach()
    monkeypatch.setattr(sys, "stdin", Keyboard("\n\nbigbox\n"))
    assert Console().ask("Which host", remedy="Name it.") == "bigbox"
    assert streams.err.text == "Which host: " * 3


@pytest.mark.parametrize("keyboard", [Keyboard(""), Keyboard("bigbox\n", terminal=False)])
def test_a_question_that_nobody_answers_ends_with_its_remedy(
    attach: Attach, monkeypatch: pytest.MonkeyPatch, keyboard: Keyboard
) -> None:
    attach()
    monkeypatch.setattr(sys, "stdin", keyboard)
    with pytest.raises(ConfirmationError) as caught:
        Console().choose("Which host", ["workbox"], default="workbox", remedy="Name it.")
    assert caught.value.remedy == "Name it."


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("2\n", "bigbox"), ("\n", "workbox"), ("elsewhere\n", "elsewhere"), ("0\n3\n1\n", "workbox")],
)
def test_options_are_chosen_by_number_or_another_word(
    attach: Attach, monkeypatch: pytest.MonkeyPatch, typed: str, answer: str
) -> None:
    streams = attach()
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    options = ["workbox", "bigbox"]
    assert Console().choose("Which", options, default="workbox", remedy="Name it.") == answer
    assert streams.err.text.startswith("  1  workbox\n  2  bigbox\nWhich [workbox]: ")
