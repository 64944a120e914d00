"""`python -m tests.looks`: take the README's pictures anew, on a test box in a real terminal.

tmux runs the commands on 80 columns; what stands on its screen becomes tests/looks/NAME.svg, and is
printed as text for the README's outputs. Needs an engine, tmux, and the box images.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.integration.boxes.boxes import make_keyring, running_box, write_laptop

HERE = Path(__file__).resolve().parent
COLUMNS = 80
PROMPT = "$ "
# each picture: its name, the terminal's rows, and what is typed
PICTURES = (
    ("up", 44, ("jupbox up workbox", "jupbox up workbox", "jupbox status workbox")),
    ("help", 60, ("jupbox --help",)),
    ("doctor", 60, ("jupbox doctor workbox",)),
    (
        "status",
        60,
        (
            "jupbox init --from workbox",
            "jupbox add humanize",
            "jupbox status",
            "jupbox up --dry-run",
        ),
    ),
)
DEADLINE_SECONDS = 900.0


def tmux(*arguments: str) -> str:
    """Call tmux on a server of our own."""
    done = subprocess.run(
        ["tmux", "-L", "jupbox-looks", *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


def wait_for_prompt(count: int) -> None:
    """Wait until the shell has prompted `count` times."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        lines = tmux("capture-pane", "-p", "-t", "looks").splitlines()
        prompts = [line for line in lines if line.startswith(PROMPT.strip())]
        if len(prompts) == count and prompts[-1].strip() == PROMPT.strip():
            return
        if time.monotonic() > deadline:
            sys.exit("the command did not end:\n" + "\n".join(lines))
        time.sleep(0.2)


def record(start: Path, rows: int, commands: tuple[str, ...]) -> str:
    """Run commands in a terminal; its last screen, with its colours."""
    size = ("-x", str(COLUMNS), "-y", str(rows))
    tmux("new-session", "-d", "-s", "looks", *size, f"bash --rcfile {start} -i")
    try:
        wait_for_prompt(1)
        for number, command in enumerate(commands, start=2):
            tmux("send-keys", "-t", "looks", command, "Enter")
            wait_for_prompt(number)
        return tmux("capture-pane", "-e", "-p", "-t", "looks").rstrip()
    finally:
        tmux("kill-server")


@contextmanager
def shell_of_a_laptop() -> Iterator[Path]:
    """What a shell reads at its start to be that of a laptop that reaches workbox."""
    with (
        tempfile.TemporaryDirectory(prefix="jupboxtest-") as folder,
        tempfile.TemporaryDirectory(prefix="jb-") as runtime,
    ):
        keys = Path(folder) / "keys"
        keys.mkdir()
        keyring = make_keyring(keys)
        with running_box("workbox", keyring):
            laptop = write_laptop(Path(folder) / "laptop", Path(runtime), keyring)
            laptop["PATH"] = f"{Path(sys.executable).parent}:{laptop['PATH']}"
            project = Path(folder) / "experiment"
            project.mkdir()
            exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in laptop.items())
            start = Path(folder) / "rc"
            start.write_text(f"{exports}PS1={PROMPT!r}\ncd {shlex.quote(str(project))}\nclear\n")
            yield start


def main() -> None:
    """Record, and write the pictures."""
    with shell_of_a_laptop() as start:
        for name, rows, commands in PICTURES:
            screen = record(start, rows, commands)
            shown = Text.from_ansi(screen.removesuffix(PROMPT.strip()).rstrip())
            picture = Console(record=True, width=COLUMNS, file=tempfile.TemporaryFile("w"))  # noqa: SIM115
            picture.print(shown)
            picture.save_svg(str(HERE / f"{name}.svg"), title="a laptop, and workbox elsewhere")
            print(f"----- {name}\n{shown.plain}", flush=True)


if __name__ == "__main__":
    main()
