"""`backup`: the home volume into a file."""

from __future__ import annotations

import sys
from pathlib import Path

from jupbox import backup as backups
from jupbox.backup import Checked
from jupbox.console import Console
from jupbox.errors import BackupError
from jupbox.release import backing
from jupbox.release.backing import about
from jupbox.site import Surroundings, load_project
from jupbox.workflows.found import Found, files_of, look, place

_MOST_NAMES = 10


def backup(
    box_name: str | None, *, around: Surroundings, console: Console, file: str | None
) -> None:
    """Write a backup of a box's home volume.

    Args:
        box_name: whose.
        around: where to.
        console: says what is in it.
        file: `-` is standard output; None is a new file in this folder.

    Raises:
        BackupError: it could not be made; there is no half one.
    """
    if file == "-" and sys.stdout.isatty():
        raise BackupError(
            "A backup is no text for a terminal.",
            remedy="Send it into a file or a pipe: `jupbox backup BOX - > FILE`.",
        )
    project = load_project(around)
    box = project.box(box_name)
    console.standing = "There is no backup; on the box nothing was changed."
    with console.stage(f"Connecting to {place(box)}", live=False):
        found = look(project, box, around)
    with console.stage(f"Backing up the home volume on {place(box)}") as stage:
        if file == "-":
            checked = backing.write_backup(found.site, found.state, sys.stdout.buffer, stage=stage)
            sys.stdout.buffer.flush()
            backing.remember(found.site, checked)
            path = None
        else:
            path = path_for(found, file)
            checked = backing.write_file(found.site, found.state, path, stage=stage)
    report(found, checked, console, path=path)


def path_for(found: Found, file: str | None) -> Path:
    """Where a backup goes: the file that was named, or a new one in this folder, or in that one."""
    site = found.site
    name = backups.file_name(site.box.name, site.around.now())
    if file is None:
        return site.around.cwd / name
    path = site.around.cwd / Path(file).expanduser()
    return path / name if path.is_dir() else path


def report(found: Found, checked: Checked, console: Console, *, path: Path | None) -> None:
    """Say what is in a backup, and what is not."""
    site = found.site
    # standard output may be the backup itself
    say = console.line if path else console.plain
    where = f"{path} ({size_text(path.stat().st_size)})" if path else "Standard output"
    say(f"{where} has {contents(checked)}.")
    for note, name in checked.notes[:_MOST_NAMES]:
        console.note(_note(note, backups.shown(name)))
    if len(checked.notes) > _MOST_NAMES:
        console.note(f"And {len(checked.notes) - _MOST_NAMES} more such files; its manifest names "
                     "them.")  # fmt: skip
    if checked.left_out:
        console.note(f"{checked.left_out} sockets, pipes or devices are not in it.")
    notebooks = about(site, found.state).notebooks
    if notebooks != "volume":
        console.note(
            f"The notebooks are not in it: they are files of the host, "
            f"{files_of(site, notebooks)}, for the host's own backup."
        )


def _note(note: str, name: str) -> str:
    if note == "unfinished":
        folder, _, file = name.rpartition("/")
        copy = f"{folder}/.~{file}" if folder else f".~{file}"
        return f"{name} was never saved to its end; {copy} is the notebook from before, in it too."
    return f"{name} changed while it was read, each time."


def contents(checked: Checked) -> str:
    """What is in a backup."""
    return f"{checked.entries:,} entries, {size_text(checked.bytes)}"


def size_text(count: int) -> str:
    """A number of bytes for a person."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
