"""How faults get into a command of jupbox that knows nothing of them.

First on the laptop's PATH is a `docker` that counts calls and, at the chosen one, ends the jupbox
that called it, with SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.integration.jupbox_command import Answer, Laptop

# `during`: the call goes on alone, as that of a client that was killed does.
_WRAPPER = """#!/bin/sh
real={real}
[ -n "$FAULT_FOLDER" ] || exec "$real" "$@"
exec 9> "$FAULT_FOLDER/lock"
flock 9  # some questions are asked at once
read n < "$FAULT_FOLDER/count"
n=$((n + 1))
echo $n > "$FAULT_FOLDER/count"
printf '%s\\n' "$*" | tr '\\n' ' ' >> "$FAULT_FOLDER/calls"
echo >> "$FAULT_FOLDER/calls"
exec 9>&-
[ "$n" = "$FAULT_AT" ] || exec "$real" "$@"
case $FAULT_WHEN in
before) kill -KILL $PPID; exit 1 ;;
during) (sleep 0.05; kill -KILL $PPID) >/dev/null 2>&1 & exec "$real" "$@" ;;
after) "$real" "$@"; code=$?; kill -KILL $PPID; exit $code ;;
esac
"""

# docker's words that change something on the box
_CHANGING = {
    "build", "buildx", "commit", "compose", "cp", "create", "load", "rename", "rm", "run", "start",
    "stop", "tag", "update",
}  # fmt: skip


class When(Enum):
    """On which side of a call the client ends."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True, kw_only=True)
class AtCall:
    """SIGKILL at the N-th call of docker, from 1 on."""

    number: int
    when: When
    what: str = ""

    def __str__(self) -> str:
        return f"{self.when.value} call {self.number} ({self.what})"


@dataclass(frozen=True, kw_only=True)
class AtStage:
    """SIGKILL as soon as a line on standard error begins so."""

    line: str

    def __str__(self) -> str:
        return f"at {self.line!r}"


@dataclass(frozen=True, kw_only=True)
class AtTime:
    """SIGKILL that many seconds after the start."""

    seconds: float

    def __str__(self) -> str:
        return f"after {self.seconds:.2f} s"


Point = AtCall | AtStage | AtTime


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a verb does when nothing is injected.

    Attributes:
        calls: words of each call of docker, in order.
        lines: what it wrote to standard error.
        seconds: how long it took.
    """

    calls: tuple[str, ...]
    lines: tuple[str, ...]
    seconds: float

    def points(self, count: int) -> list[Point]:
        """That many points spread over the verb: most at docker's calls, others by stage and time.

        First comes each side of each call that changes something, as far as there is room.
        """
        stages: list[Point] = [AtStage(line=line) for line in self.lines if line.endswith("...")]
        stages = stages[: count // 6]
        times: list[Point] = [
            AtTime(seconds=self.seconds * (i + 0.5) / (count // 6)) for i in range(count // 6)
        ]
        sides = [
            AtCall(number=number, when=when, what=_verb(words))
            for number, words in enumerate(self.calls, 1)
            for when in (When if _changes(words) else (When.BEFORE,))
        ]
        at_calls = _spread(sides, count - len(stages) - len(times))
        return [*at_calls, *stages, *times]


def _spread(points: Sequence[AtCall], count: int) -> list[Point]:
    return [points[i * len(points) // count] for i in range(count)] if points else []


def _words(call: str) -> list[str]:
    words = shlex.split(call, posix=False)
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] in {"--host", "-H", "--config"} else words[1:]
    return words


def _verb(call: str) -> str:
    return " ".join(word for word in _words(call)[:2] if not word.startswith("-"))


def _changes(call: str) -> bool:
    words = [word for word in _words(call)[:8] if not word.startswith("-")]
    reads = {"ls", "list", "inspect", "version", "config"}
    return bool(set(words[:6]) & _CHANGING) and not set(words[1:2]) & reads


@dataclass(kw_only=True)
class FaultyLaptop:
    """A laptop on which jupbox can be ended at a point.

    Attributes:
        laptop: as the user knows it.
        folder: where calls are counted.
    """

    laptop: Laptop
    folder: Path
    _runs: int = field(default=0)

    def __post_init__(self) -> None:
        real = shutil.which("docker")
        assert real is not None, "the tests need docker's command line"
        wrapper = Path(self.laptop.environ["HOME"], "bin", "docker")
        wrapper.write_text(_WRAPPER.format(real=shlex.quote(real)))
        wrapper.chmod(0o755)

    def observe(self, *arguments: str, input: str = "") -> tuple[Observed, Answer]:
        """Run a verb to its good end, and see how it gets there."""
        place = self._place()
        begin = time.monotonic()
        done = self._counting(place).must(*arguments, input=input)
        calls = (place / "calls").read_text().splitlines()
        seen = Observed(
            calls=tuple(calls),
            lines=tuple(dict.fromkeys(done.stderr.splitlines())),
            seconds=time.monotonic() - begin,
        )
        return seen, done

    def killed(
        self, point: Point, *arguments: str, everything: bool = False, input: str = ""
    ) -> int:
        """Run a verb that SIGKILL ends at a point; its exit code, -9 if the point was reached.

        Args:
            point: where.
            arguments: the verb and its words.
            everything: the laptop loses its power: all that jupbox has started ends with it.
            input: what it reads.
        """
        place = self._place()
        extra = {}
        if isinstance(point, AtCall):
            extra = {"FAULT_AT": str(point.number), "FAULT_WHEN": point.when.value}
        laptop = self._counting(place, **extra)
        with (place / "stderr").open("wb") as said, (place / "stdout").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "jupbox", *arguments],
                env=dict(laptop.environ), cwd=laptop.folder, stdin=subprocess.PIPE,
                stdout=out, stderr=said, start_new_session=True,
            )  # fmt: skip
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(input.encode())
            if isinstance(point, AtTime):
                deadline = time.monotonic() + point.seconds
                _kill_when(process, lambda: time.monotonic() >= deadline)
            if isinstance(point, AtStage):
                said_so = place / "stderr"
                _kill_when(process, lambda: point.line in said_so.read_text(errors="replace"))
            try:
                code = process.wait(timeout=300)
            finally:
                process.kill()
                process.wait()
        if everything:
            self.power_off()
        return code

    def power_off(self) -> None:
        """SIGKILL everything that runs on this laptop, shared ssh connections too."""
        mine = f"XDG_RUNTIME_DIR={self.laptop.environ['XDG_RUNTIME_DIR']}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mine in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)

    def _place(self) -> Path:
        self._runs += 1
        place = self.folder / f"run-{self._runs}"
        place.mkdir(parents=True)
        (place / "count").write_text("0\n")
        (place / "calls").touch()
        return place

    def _counting(self, place: Path, **extra: str) -> Laptop:
        return self.laptop.at(self.laptop.folder, FAULT_FOLDER=str(place), **extra)


def _kill_when(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    """SIGKILL as soon as `condition` holds, if the process lives then."""

    def watch() -> None:
        while process.poll() is None:
            if condition():
                process.kill()
                return
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()
