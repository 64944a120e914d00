"""Bring boxes up by hand: `python -m tests.integration.boxes workbox`; Ctrl-C takes them away."""

from __future__ import annotations

import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.integration.boxes.boxes import BOXES, make_keyring, running_box, write_laptop


def main(names: list[str]) -> None:
    """Run the named boxes until a signal comes."""
    unknown = sorted(set(names) - set(BOXES))
    if unknown or not names:
        sys.exit(f"usage: python -m tests.integration.boxes BOX...   ({', '.join(BOXES)})")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jupboxtest-")))
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jb-")))
        (directory / "keys").mkdir()
        keyring = make_keyring(directory / "keys")
        for name in names:
            box = stack.enter_context(running_box(name, keyring))
            print(f"# {name}: port {box.port}, container {box.container}, also {name}-root")
        environment = write_laptop(directory / "laptop", runtime, keyring)
        for name in ("HOME", "PATH", *(key for key in environment if key.startswith("XDG_"))):
            print(f"export {name}={environment[name]}")
        print("# up; Ctrl-C takes them away", flush=True)
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
