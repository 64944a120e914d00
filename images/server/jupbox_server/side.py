"""`python -m jupbox_server.side`: what is installed beside the image.

`report` prints how far it is from the image, as JSON. `install [--env NAME]` installs the
requirements on standard input, each with its version and hashes, into the running box.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import environment
from .drift import Drift
from .kernelspecs import ensure_kernelspecs
from .overlay import DEFAULT, KERNELS, Side, ensure, image_root, root_in, sides
from .packages import redundant, remove


def _say(text: str) -> None:
    print(f"jupbox: {text}", file=sys.stderr, flush=True)


def _drop_redundant(side: Side) -> None:
    """Take off the side what the image has now: the copy would hide the image's next version."""
    for package in redundant(side):
        remove(package, side)
        _say(f"{package.key} {package.version} is in the image now; its copy on the side is gone")


def prepare(home: Path, *, image: Path | None = None, kernels: Path = KERNELS) -> tuple[Side, ...]:
    """Make the side of each environment and its kernelspec, or say why there is none.

    A full or broken home directory costs what is on the side, never the start of the server.

    Returns:
        The sides that can be used.
    """
    image = image or image_root()
    ready = []
    for side in sides(home, image=image, kernels=kernels):
        try:
            ensure(side)
        except OSError as error:
            _say(f"nothing can be installed beside the image: {error}")
            continue
        ready.append(side)
        try:
            _drop_redundant(side)
        except OSError as error:
            _say(f"a package that the image has now stays on the side: {error}")
    try:
        ensure_kernelspecs(ready, image=image, root=root_in(home))
    except OSError as error:
        _say(f"kernels do not see what is installed beside the image: {error}")
    return tuple(ready)


def _reason(errors: str) -> str:
    """The last that pip complained of, on one line."""
    lines = [line.strip() for line in errors.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("WARNING:", "[notice]"))]
    wrong = [number for number, line in enumerate(lines) if line.startswith("ERROR:")]
    last = lines[wrong[-1] if wrong else -1 :] or ["pip failed"]
    return " ".join(last).removeprefix("ERROR:").strip()


def install(side: Side, requirements: str) -> str | None:
    """Install exact versions, hashes checked, into a side.

    Returns:
        Why pip did not, None if it did.

    Raises:
        OSError: the home directory cannot be written.
    """
    ensure(side)
    environ = dict(os.environ)
    environment.apply(environ)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        options = ["--no-deps", "--require-hashes", "--no-input", "--only-binary", ":all:"]
        done = subprocess.run(
            [side.interpreter, "-P", "-m", "pip", "install", "-q", *options, "-r", file.name],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    return _reason(done.stderr) if done.returncode else None


def _install(name: str) -> int:
    side = next((side for side in sides(Path.home()) if side.name == name), None)
    if side is None:
        print(f"the image has no environment {name!r}", file=sys.stderr)
        return 1
    try:
        reason = install(side, sys.stdin.read())
    except OSError as error:
        reason = str(error)
    if reason:
        print(reason, file=sys.stderr)
    return 1 if reason else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Report or install; the exit code."""
    parser = argparse.ArgumentParser(prog="jupbox_server.side", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("report")
    verbs.add_parser("install").add_argument("--env", default=DEFAULT, metavar="NAME")
    arguments = parser.parse_args(argv)
    if arguments.verb == "install":
        return _install(arguments.env)
    try:
        print(json.dumps(Drift(Path.home()).report()))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
