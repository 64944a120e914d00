"""A finding, how bad it is, and the words that findings share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from jupbox.errors import JupboxError

LAPTOP: Final = "laptop"
BOX: Final = "box"
SERVER: Final = "server"

_GB: Final = 10**9


class Severity(IntEnum):
    """How bad a finding is."""

    OK = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        """As JSON has it."""
        return self.name.lower()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: `laptop`, `box` or `server`.
        name: what was looked at, one word.
        message: what is so, one sentence without secrets.
        remedy: what to do about it; empty where nothing needs to be done.
    """

    area: str
    name: str
    severity: Severity
    message: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """Every field, for programs."""
        return {
            "area": self.area,
            "name": self.name,
            "severity": self.severity.word,
            "message": self.message,
            "remedy": self.remedy,
        }


def of_error(
    error: JupboxError, *, area: str, name: str, severity: Severity = Severity.ERROR
) -> Finding:
    """The finding that an error is, in its own words."""
    return Finding(
        area=area, name=name, severity=severity, message=error.message, remedy=error.remedy
    )


def worst(findings: Sequence[Finding]) -> Severity:
    """The worst severity among findings."""
    return max((finding.severity for finding in findings), default=Severity.OK)


def exit_code(findings: Sequence[Finding]) -> int:
    """0: nothing worse than a note; 1: warnings; 2: errors."""
    return max(0, worst(findings) - Severity.NOTE)


def summary(findings: Sequence[Finding]) -> str:
    """How many of the bad ones there are."""
    counts = [
        (sum(f.severity is severity for f in findings), severity.word)
        for severity in (Severity.WARNING, Severity.ERROR)
    ]
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts) + "."


def fine(area: str, name: str, message: str) -> Finding:
    """What is as it should be."""
    return Finding(area=area, name=name, severity=Severity.OK, message=message)


def note(area: str, name: str, message: str, remedy: str) -> Finding:
    """What is worth knowing and stops nothing."""
    return Finding(area=area, name=name, severity=Severity.NOTE, message=message, remedy=remedy)


def warning(area: str, name: str, message: str, remedy: str) -> Finding:
    """What will be trouble."""
    return Finding(area=area, name=name, severity=Severity.WARNING, message=message, remedy=remedy)


def error(area: str, name: str, message: str, remedy: str) -> Finding:
    """What keeps something from working."""
    return Finding(area=area, name=name, severity=Severity.ERROR, message=message, remedy=remedy)


def size(count: int) -> str:
    """Bytes as disks are sold."""
    if count < _GB // 10:
        return f"{count / 10**6:.0f} MB"
    return f"{count / _GB:.1f} GB" if count < 100 * _GB else f"{count / _GB:.0f} GB"


def memory_size(count: int) -> str:
    """As `memory` in jupbox.toml counts."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def times(count: int) -> str:
    """How often."""
    return "once" if count == 1 else f"{count} times"
