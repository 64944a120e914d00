"""This machine: its programs, its disk, its way to the Python index."""

from __future__ import annotations

from dataclasses import dataclass

from jupbox.doctor.finding import LAPTOP, Finding, error, fine, listed, note
from jupbox.doctor.resources import Reach, Space, of_reach, of_space


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of this machine.

    Attributes:
        name: what the finding is called.
        title: how a sentence calls it.
        version: None: it is not there, or did not answer.
        minimum: the oldest version that will do, as numbers; empty: any.
        remedy: how to get it.
    """

    name: str
    title: str
    version: str | None
    remedy: str
    minimum: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Laptop:
    """The machine that jupbox runs on.

    Attributes:
        bundle: the CA bundle that is used, None for the usual authorities.
        cache: the disk of the cache folder, None where it cannot be said.
        ignored: variables of Docker's that are set and that jupbox does not follow.
        index: the Python index, None when there was no uv to ask it with.
    """

    programs: tuple[Program, ...]
    bundle: str | None
    cache: Space | None
    ignored: tuple[str, ...]
    index: Reach | None


def of_laptop(laptop: Laptop) -> list[Finding]:
    """What is to be said of this machine."""
    found = [_program(program) for program in laptop.programs]
    if laptop.bundle:
        found.append(fine(LAPTOP, "ca-bundle", f"{laptop.bundle} can be read."))
    if laptop.cache:
        found += of_space(LAPTOP, "cache", laptop.cache, remedy="Free some, or clear the cache.")
    if laptop.ignored:
        found.append(
            note(
                LAPTOP,
                "docker-host",
                f"{listed(laptop.ignored)} is set; jupbox does not follow it.",
                "Nothing to do: a box's `host` says where jupbox goes.",
            )
        )
    if laptop.index:
        found.append(of_reach(LAPTOP, "index", "The Python index", laptop.index))
    return found


def _program(program: Program) -> Finding:
    if program.version is None:
        return error(LAPTOP, program.name, f"There is no {program.title} here.", program.remedy)
    if program.minimum and _numbers(program.version) < program.minimum:
        wanted = ".".join(map(str, program.minimum))
        return error(
            LAPTOP,
            program.name,
            f"{program.title} is {program.version}; jupbox needs {wanted} or newer.",
            program.remedy,
        )
    return fine(LAPTOP, program.name, f"{program.title} {program.version}".strip())


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.removeprefix("v").split(".")[:2]
    digits = ["".join(c for c in part if c.isdigit()) for part in parts]
    return tuple(int(d) for d in digits if d)
