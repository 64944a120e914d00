"""`python -m tests`: install what the tests need on this Debian machine, check, and run them all.

Arguments go to pytest (`python -m tests tests/unit`); with any, the checks of style are left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

# program to Debian package
PROGRAMS = {
    "certutil": "libnss3-tools",
    "chromium": "chromium",
    "curl": "curl",
    "faketime": "faketime",
    "git": "git",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
    "ss": "iproute2",
    "ssh": "openssh-client",
}


def run(*argv: str | Path) -> None:
    """Run a command, shown first; a failure ends the run with its exit code."""
    command = [str(word) for word in argv]
    print("+", *(Path(command[0]).name, *command[1:]), flush=True)
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def ensure_programs() -> None:
    """Install the distribution's packages that are missing, as root."""
    missing = sorted({name for tool, name in PROGRAMS.items() if shutil.which(tool) is None})
    if missing:
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        run("apt-get", "-qq", "update")
        run("apt-get", "-qq", "install", "--yes", "--no-install-recommends", *missing)


def main(arguments: list[str]) -> None:
    """Prepare, check, test."""
    # the programs of the environment that the tests run in, jupbox's own first
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    ensure_programs()
    run(BIN / "jupbox", "setup", "local", "--yes")
    if not arguments:
        run(BIN / "ruff", "check", ".")
        run(BIN / "ruff", "format", "--check", ".")
        run(BIN / "mypy")
        run(BIN / "lint-imports")
    run(BIN / "python", "-m", "pytest", "-n", "2", "--dist", "loadgroup", *arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
