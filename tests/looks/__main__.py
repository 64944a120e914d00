"""`python -m tests.looks`: take the README's picture anew, on a test box in a real terminal.

tmux runs the commands on 80 columns; what stands on its screen becomes tests/looks/up.svg, and is
printed as text for the README's outputs. Needs an engine, tmux, and the box images.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.integration.boxes.boxes import make_keyring, running_box, write_laptop

HERE = Path(__file__).resolve().parent
COLUMNS, ROWS = 80, 44
PROMPT = "$ "
COMMANDS = (
    "jupbox up workbox",
    "jupbox up workbox",
    "jupbox status workbox",
)
DEADLINE_SECONDS = 900.0


def tmux(*arguments: str) -> str:
    """Call tmux on a server of our own."""
    done = subprocess.run(
        ["tmux", "-L", "jupbox-looks", *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


def screen() -> str:
    """What stands on the terminal, with its colours."""
    return tmux("capture-pane", "-e", "-p", "-t", "looks").rstrip()


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


def record(environment: dict[str, str]) -> str:
    """Run the commands in a terminal; its last screen."""
    with tempfile.TemporaryDirectory(prefix="jupbox-looks-") as folder:
        start = Path(folder) / "rc"
        exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in environment.items())
        start.write_text(f'{exports}PS1={PROMPT!r}\ncd "$HOME"\nclear\n')
        size = ("-x", str(COLUMNS), "-y", str(ROWS))
        tmux("new-session", "-d", "-s", "looks", *size, f"bash --rcfile {start} -i")
        try:
            wait_for_prompt(1)
            for number, command in enumerate(COMMANDS, start=2):
                tmux("send-keys", "-t", "looks", command, "Enter")
                wait_for_prompt(number)
            return screen()
        finally:
            tmux("kill-server")


def main() -> None:
    """Record, and write the picture."""
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
            shown = Text.from_ansi(record(laptop).removesuffix(PROMPT.strip()).rstrip())
    picture = Console(record=True, width=COLUMNS, file=tempfile.TemporaryFile("w"))  # noqa: SIM115
    picture.print(shown)
    picture.save_svg(str(HERE / "up.svg"), title="a laptop, and workbox somewhere else")
    print(shown.plain)


if __name__ == "__main__":
    main()
