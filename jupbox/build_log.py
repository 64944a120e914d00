"""What a failed build's log says of the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# apt's words, uv's and pip's; BuildKit's own `ERROR: process "…" did not complete` says less
_REASON: Final = re.compile(r"(?:^|\s)(?:E|error): | ERROR: (?!process )")
# uv's words for a wheel, our own script's for a Debian package
_OTHER_FILE: Final = re.compile(r"Hash mismatch for|has another SHA-256 than the lock")
# our own script's words for a command of a definition (run.sh)
_COMMAND: Final = re.compile(
    r"^#(?P<step>\d+) \S+ E: exit code (?P<code>\d+) of run: (?P<words>.*)"
)
_FAILED_STEP: Final = re.compile(r"^(?P<step>#\d+) ERROR: process ")
_STEP_AND_TIME: Final = re.compile(r"^(?:#\d+ )?(?:\d+\.\d+ )?")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a build failed, and what to do."""

    words: str
    remedy: str


def reason(lines: Sequence[str]) -> Reason:
    """The reason for a failed build.

    Args:
        lines: of BuildKit's plain progress.
    """
    if failed := _failed_command(lines):
        return Reason(
            words=failed,
            remedy="Mend that line of `run`, or what it needs; --verbose shows the whole log of "
            "the build.",
        )
    other = [line for line in lines if _OTHER_FILE.search(line)]
    reasons = other or [line for line in lines if _REASON.search(line)]
    reasons = reasons or _last_of_failed_step(lines)
    last = (reasons or [line for line in lines if line.strip()] or ["no reason given"])[-1]
    words = _STEP_AND_TIME.sub("", last.strip()).strip().removeprefix("Caused by: ")[:300]
    return Reason(
        words=words,
        remedy="Take jupbox.lock from version control again; if it is as your team has it, the "
        "mirror or the index serves another file than it did."
        if other
        else "Run it again with --verbose to see the whole log of the build.",
    )


def _failed_command(lines: Sequence[str]) -> str:
    """Which command of a definition failed in a build, and its last words; empty for none."""
    for number in range(len(lines) - 1, -1, -1):
        if failed := _COMMAND.match(lines[number]):
            break
    else:
        return ""
    command = f"`{_cut(failed['words'], 120)}` of `run` failed with exit code {failed['code']}"
    of_step = [line for line in lines[:number] if line.startswith(f"#{failed['step']} ")]
    said = [text for line in of_step if (text := _STEP_AND_TIME.sub("", line).strip())]
    if not said or said[-1] == f"+ {failed['words']}".strip():
        return f"{command}."
    return f"{command}: {_cut(said[-1], 300)}"


def _last_of_failed_step(lines: Sequence[str]) -> list[str]:
    """What the step that failed said before, in nobody's known words (`cp: …`)."""
    failed = next((match for line in lines if (match := _FAILED_STEP.match(line))), None)
    if failed is None:
        return []
    said = re.compile(rf"{re.escape(failed['step'])} \d+\.\d+ \S")
    return [line for line in lines if said.match(line)]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
