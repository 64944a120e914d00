"""The one printer. Progress goes to standard error, results to standard output.

On a terminal stages are shown as they run; elsewhere (a pipe, CI) each is a plain line.
"""

from __future__ import annotations

import getpass
import io
import json
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console as Rich
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from jupbox.errors import ConfirmationError, JupboxError, PasswordError
from jupbox.secret import Secret

_COLOURS: Final = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}


def show_what_can_be_shown() -> None:
    """Let a character that this terminal's encoding lacks come out as an escape, not as a crash."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Stage:
    """A stage that runs now; `detail` says what it is at."""

    def __init__(self, console: Console, title: str, progress: Progress | None) -> None:
        self._console = console
        self._title = title
        self._progress = progress
        self._task = progress.add_task(title) if progress else None

    def detail(self, text: str) -> None:
        """Say what the stage is at."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=f"{self._title}: {text}")
        elif text:
            self._console.plain(f"  {text}")

    def log(self, line: str) -> None:
        """A line of a program's own log; shown with --verbose only."""
        if self._console.verbose:
            self._console.plain(f"    {line}")


class Console:
    """Prints; knows whether a person looks on.

    Args:
        verbose: show the logs of builds.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self.standing = "What was finished stays; the same command goes on from there."
        """What a user whose Ctrl-C ends the command must know; a workflow says it better."""
        self.before_stage: Callable[[], None] = lambda: None
        """Called when a stage begins; raises where the command must not go on."""
        self._unfinished = ""
        show_what_can_be_shown()
        self._out = Rich(highlight=False, soft_wrap=True)
        self._err = Rich(stderr=True, highlight=False, soft_wrap=True)

    @property
    def _unicode(self) -> bool:
        return (self._err.encoding or "").lower().startswith("utf")

    @property
    def _marks(self) -> tuple[str, str]:
        return ("✓", "✗") if self._unicode else ("ok", "x")

    def plain(self, text: str) -> None:
        """A line of progress."""
        self._err.print(Text(text))

    def note(self, text: str) -> None:
        """Something worth knowing that is no error."""
        shown = self._wrapped(text, indent=2, on=self._err)
        self._err.print(Text(f"! {shown}", style="yellow"))

    def line(self, text: str = "") -> None:
        """A line of the result."""
        self._out.print(Text(text))

    def state(self, name: str, state: str, level: str) -> None:
        """A result's first line: what it is about, and how that is (`ok`, `warning`, `error`)."""
        self._out.print(Text.assemble(f"{name}: ", (state, _COLOURS[level])))

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """A result as aligned names and values."""
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            shown = self._wrapped(value, indent=width + 4)
            self._out.print(Text.assemble((f"  {name:<{width}}  ", "bold"), shown))

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], *, result: bool = True
    ) -> None:
        """Rows under a header, in columns as wide as they need; the last one may be long.

        Args:
            header: names of the columns.
            rows: a text for each column.
            result: part of the result; else of what is said beside it.
        """
        out = self._out if result else self._err
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        indent = sum(widths[:-1]) + 2 * len(widths)
        for number, row in enumerate((header, *rows)):
            *cells, last = row
            text = "".join(f"{c:<{w}}  " for c, w in zip(cells, widths, strict=False))
            shown = self._wrapped(last, indent=indent, on=out)
            out.print(Text(f"  {text}{shown}", style="" if number else "bold"))

    def checklist(self, parts: Sequence[tuple[str, Sequence[tuple[str, str, str, str]]]]) -> None:
        """A result as marked lines under titles, each with its remedy below if there is one.

        Args:
            parts: titles with rows of: `ok`, `note`, `warning` or `error`; a name; a sentence; a
                remedy or nothing.
        """
        marks = {"ok": self._marks[0], "note": "-", "warning": "!", "error": self._marks[1]}
        first = max(map(len, marks.values()))
        column = max(len(name) for _, rows in parts for _, name, _, _ in rows)
        indent = first + column + 5
        for title, rows in parts:
            self._out.print(Text(title, style="bold"))
            for level, name, text, remedy in rows:
                self._out.print(
                    Text.assemble(
                        (f"  {marks[level]:<{first}} ", _COLOURS[level]),
                        (f"{name:<{column}}  ", "bold"),
                        self._wrapped(text, indent=indent),
                    )
                )
                if remedy:
                    arrow = "→ " if self._unicode else "-> "
                    words = self._wrapped(remedy, indent=indent + len(arrow))
                    self._out.print(f"{' ' * indent}{arrow}{words}", markup=False)

    def _wrapped(self, text: str, *, indent: int, on: Rich | None = None) -> str:
        """Text in lines that a terminal shows whole; as it is where none is."""
        printer = on or self._out
        if not printer.is_terminal:
            return _one_line(text)
        lines = textwrap.wrap(
            _one_line(text),
            max(20, printer.width - indent),
            break_long_words=False,
            break_on_hyphens=False,
        )
        return f"\n{' ' * indent}".join(lines)

    def json(self, value: Mapping[str, object] | Sequence[object]) -> None:
        """A result for programs."""
        sys.stdout.write(json.dumps(value, indent=2) + "\n")

    def error(self, error: JupboxError) -> None:
        """One red line that says what is wrong and one that says what to do; log lines between."""
        mark = f"{self._marks[1]} "
        words = self._wrapped(error.message, indent=len(mark), on=self._err)
        self._err.print(Text(f"{mark}{words}", style="bold red"))
        for line in error.details:
            self._err.print(Text(f"  | {line}", style="dim"))
        self._err.print(Text(f"  {self._wrapped(error.remedy, indent=2, on=self._err)}"))

    def interrupted(self) -> None:
        """One line that says what Ctrl-C ended, and one that says what stands."""
        if self._err.is_terminal:
            self._err.print()  # the terminal has put its ^C, or a question stands there
        during = f' during "{self._unfinished}"' if self._unfinished else ""
        self._err.print(Text(f"{self._marks[1]} Interrupted{during}.", style="bold red"))
        self._err.print(Text(f"  {self.standing}"))

    @contextmanager
    def stage(self, title: str, *, live: bool = True) -> Iterator[Stage]:
        """Show a stage while it runs, and how long it took.

        Args:
            title: what is done.
            live: redraw the line on a terminal; not where a program may ask something there.
        """
        self.before_stage()
        begun = time.monotonic()
        self._unfinished = title
        if self._err.is_terminal and not self.verbose and live:
            spinner = SpinnerColumn("dots" if self._unicode else "line")
            columns = (spinner, TextColumn("{task.description}"), TimeElapsedColumn())
            with Progress(*columns, console=self._err, transient=True) as progress:
                yield Stage(self, title, progress)
        else:
            self.plain(f"{title} ...")
            yield Stage(self, title, None)
        self._unfinished = ""
        took = f"{time.monotonic() - begun:.1f} s"
        self._err.print(
            Text.assemble((self._marks[0], "green"), f" {title} ", (f"({took})", "dim"))
        )

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask; `yes` answers beforehand.

        Raises:
            ConfirmationError: the answer is no, or nobody is there to give one.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise ConfirmationError(
                f"Nobody is there to answer: {question}", remedy="Nothing was changed; add --yes."
            )
        self._err.print(Text(f"{question} [y/N] "), end="")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise ConfirmationError(
                f"Not confirmed: {question}", remedy="Nothing was changed; answer y, or add --yes."
            )

    def ask(self, question: str, *, default: str = "", remedy: str) -> str:
        """Ask for a word; an empty answer is the default.

        Args:
            question: ends without a mark.
            default: what is offered; without one it is asked until there is an answer.
            remedy: how the question is answered beforehand.

        Raises:
            ConfirmationError: nobody is there to give an answer.
        """
        if not sys.stdin.isatty():
            raise ConfirmationError(f"Nobody is there to answer: {question}?", remedy=remedy)
        offered = f" [{default}]" if default else ""
        while True:
            self._err.print(Text(f"{question}{offered}: "), end="")
            line = sys.stdin.readline()
            if not line:
                self._err.print()  # the question ended with no line break
                raise ConfirmationError(f"Not answered: {question}?", remedy=remedy)
            if answer := line.strip() or default:
                return answer

    def choose(
        self, question: str, options: Sequence[str], *, default: str = "", remedy: str
    ) -> str:
        """Ask for one of the options, by its number or its name, or for another word.

        Args:
            question: as for `ask`.
            options: what is offered, in this order.
            default: as for `ask`.
            remedy: as for `ask`.

        Raises:
            ConfirmationError: nobody is there to give an answer.
        """
        numbered = {str(number): option for number, option in enumerate(options, 1)}
        if sys.stdin.isatty():
            for number, option in numbered.items():
                self._err.print(Text(f"  {number:>{len(str(len(options)))}}  {option}"))
        while True:
            answer = self.ask(question, default=default, remedy=remedy)
            if answer in numbered or not answer.isdigit():
                return numbered.get(answer, answer)
            self.note(f"There is no number {answer}.")

    def read_secret(self) -> Secret:
        """The first line of standard input."""
        line = sys.stdin.buffer.readline().rstrip(b"\r\n")
        return Secret(line.decode(errors="surrogateescape"))

    def ask_secret(self, prompt: str) -> Secret:
        """Ask for a secret without echo.

        Raises:
            PasswordError: there is no terminal, or the question was left unanswered.
        """
        remedy = "Nothing was changed; use --stdin or --generate."
        try:
            with warnings.catch_warnings():
                # without a terminal getpass warns, and would echo what is typed
                warnings.simplefilter("error", getpass.GetPassWarning)
                return Secret(getpass.getpass(prompt))
        except getpass.GetPassWarning:
            raise PasswordError(
                "There is no terminal to ask for the password on.", remedy=remedy
            ) from None
        except EOFError:
            self._err.print()  # the question ended with no line break
            raise PasswordError("No password was entered.", remedy=remedy) from None


def _one_line(text: str) -> str:
    return " ".join(text.split())
