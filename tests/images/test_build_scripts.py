"""The scripts of a build that run commands and install packages, in this machine's own shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from jupbox import assets

SCRIPT = (assets.folder("images") / "build" / "run.sh").read_text()


def run(folder: Path, *commands: str, secrets: str = "") -> subprocess.CompletedProcess[str]:
    """Run commands as a build does, with /build and /run/secrets in a folder; nothing settles."""
    for name in ("build", "secrets", "tmp"):
        (folder / name).mkdir()
    (folder / "build" / "commands.txt").write_text("".join(f"{one}\n" for one in commands))
    (folder / "build" / "network.sh").write_text(f"export WAY={folder}\n")
    (folder / "build" / "settle.sh").write_text('settle() { echo "settled at $1"; }\n')
    for name in secrets.split():
        (folder / "secrets" / name).write_text("x\n")
    # in one go: the folder is below /tmp itself
    text = re.sub(r"(?:/run)?/(build|tmp|secrets)/", rf"{folder}/\1/", SCRIPT)
    return subprocess.run(
        ["sh", "-c", text, "run.sh", "7"], input="typed\n", capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def test_commands_run_in_their_order_with_the_builds_network(tmp_path: Path) -> None:
    done = run(tmp_path, "echo one $(pwd)", 'echo "two  \\\\ $WAY"')
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [lines[1], lines[-2], lines[-1]] == [
        "one /", f"two  \\ {tmp_path}", "settled at 7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "code"),
    [("false", 1), ("exit 3", 3), ("cd /nowhere && true", 2), ("echo $NOT_SET", 2), ("if", 2)],
)
def test_a_command_that_fails_stops_the_build_and_is_named(
    tmp_path: Path, command: str, code: int
) -> None:
    done = run(tmp_path, "echo before", command, "echo after")
    assert done.returncode == 46
    assert done.stdout.splitlines()[-1] == f"E: exit code {code} of run: {command}"
    assert "before" in done.stdout
    assert "after" not in done.stdout
    assert "settled" not in done.stdout


def test_a_command_changes_nothing_for_the_next_and_reads_no_other(tmp_path: Path) -> None:
    done = run(tmp_path, "cd /usr; X=1; cat", "echo ${X:-none} $(pwd)")
    assert "none /\n" in done.stdout
    assert "typed" not in done.stdout


@pytest.mark.parametrize(
    ("secrets", "said"),
    [("", []), ("sources", ["Dir::Etc"] * 2), ("ca", ["Acquire"]), ("sources ca", None)],
)
def test_apt_knows_the_builds_mirror_and_nothing_of_that_stays(
    tmp_path: Path, secrets: str, said: list[str] | None
) -> None:
    done = run(tmp_path, 'cat "${APT_CONFIG:-/dev/null}"', secrets=secrets)
    lines = [line for line in done.stdout.splitlines() if "::" in line]
    expected = ["Dir::Etc", "Dir::Etc", "Acquire"] if said is None else said
    assert [line.split("::Source")[0].split("::https")[0] for line in lines] == expected
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(("word", "wheels"), [("", True), ("sources", False), ("other", True)])
def test_packages_come_as_wheels_with_their_hashes_checked_unless_told_otherwise(
    tmp_path: Path, word: str, wheels: bool
) -> None:
    text = (assets.folder("images") / "build" / "python.sh").read_text()
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "lib").mkdir()
    stubs = {"env/bin/python": "cat > /dev/null", "uv": f'echo "$@" > {tmp_path}/told'}
    for name, script in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "network.sh").touch()
    (tmp_path / "settle.sh").write_text("settle() { :; }\n")
    text = text.replace("/build/", f"{tmp_path}/").replace("/opt/uv/bin/uv", f"{tmp_path}/uv")
    words = ["sh", "-c", text, "python.sh", str(tmp_path / "env"), "packages.txt", "7", word]
    subprocess.run(words, check=True, timeout=60)
    told = (tmp_path / "told").read_text().split()
    assert "--require-hashes" in told
    assert ("--only-binary" in told) == wheels
