"""Files on the laptop: written whole or not at all, never readable to others by accident."""

from __future__ import annotations

import contextlib
import errno
import html
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jupbox.errors import FilesError

# ssh appends 17 characters to a control path while it binds it, and 90 characters were the most
# that passed; this leaves 40 for the file names in the directory.
_RUNTIME_PATH_MAX: Final = 50

# as long as the codes in them are good
_REDIRECT_SECONDS: Final = 60

_REDIRECT: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0;url={url}">
<title>Opening JupyterLab</title>
</head>
<body><p><a href="{url}">Open JupyterLab</a></p></body>
</html>
"""


def write_atomic(path: Path, content: bytes, *, mode: int) -> None:
    """Replace a file by new content, whole or not at all, also across a power cut.

    Args:
        path: the file; its directory exists. A symbolic link is replaced, not followed.
        content: all of the new content.
        mode: its permission bits, in force before the first byte and whatever the umask.

    Raises:
        FilesError: the directory is missing or not writable, or the disk is full; the old file,
            if any, is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        _write_new(temporary, content, mode=mode)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise FilesError(
            f"{path} cannot be written: {os.strerror(error.errno or errno.EIO)}.",
            remedy=f"Check that {path.parent} exists, is yours to write, and has room.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def runtime_directory(
    *, environ: Mapping[str, str] = os.environ, temporary: Path = Path("/tmp")
) -> Path:
    """Return the directory for sockets and one-time files, made if missing, 0700 and ours.

    Args:
        environ: where XDG_RUNTIME_DIR is looked up.
        temporary: where it goes, as `jupbox-<uid>`, if there is no usable XDG_RUNTIME_DIR.

    Returns:
        `$XDG_RUNTIME_DIR/jupbox` or `/tmp/jupbox-<uid>`; short enough for ssh's control paths.

    Raises:
        FilesError: what stands there is not a directory of ours, or others may write it.
    """
    given = environ.get("XDG_RUNTIME_DIR", "")
    if given and _is_usable_parent(Path(given)):
        return _ensure_private(Path(given) / "jupbox")
    return _ensure_private(temporary / f"jupbox-{os.getuid()}")


def redirect_file(directory: Path, url: str) -> Path:
    """Write a page that sends a browser on, so that a one-time code stands in no process list.

    Those that nobody removed go with it, a minute later, when their codes are dead.

    Args:
        directory: where, as `runtime_directory` gives it.
        url: where the page leads.

    Returns:
        The page's path, mode 0600, of a new name each time; the caller removes it.

    Raises:
        FilesError: it cannot be written.
    """
    for old in directory.glob("open-*.html"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > _REDIRECT_SECONDS:
                old.unlink()
    path = directory / f"open-{secrets.token_hex(8)}.html"
    page = _REDIRECT.format(url=html.escape(url, quote=True))
    write_atomic(path, page.encode(), mode=0o600)
    return path


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Make a rename last; a file system that cannot sync a directory is left to itself."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_usable_parent(directory: Path) -> bool:
    # After `su` or `sudo -E` the variable still names the other user's directory.
    if not directory.is_absolute() or len(str(directory / "jupbox")) > _RUNTIME_PATH_MAX:
        return False
    try:
        status = directory.stat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _ensure_private(directory: Path) -> Path:
    try:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        # lstat: in /tmp anybody may have put a link of this name there first.
        status = directory.lstat()
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        open_to_others = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        if ours and not open_to_others:
            directory.chmod(0o700)
    except OSError as error:
        raise FilesError(
            f"{directory} cannot be made: {os.strerror(error.errno or errno.EIO)}.",
            remedy="Set XDG_RUNTIME_DIR to a directory that only you can write.",
        ) from error
    if not ours or open_to_others:
        raise FilesError(
            f"{directory} is not a directory that only you can write.",
            remedy="Remove it, or set XDG_RUNTIME_DIR to a directory that only you can write.",
        )
    return directory
