"""A repository's files into the user's folder, once and for all."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import IO, Final

from jupbox.errors import FilesError
from jupbox.host.inspected import Container
from jupbox.render import Account
from jupbox.site import Site

_THERE: Final = 7
# Unpacked beside its place and moved there whole, so that what is there is never half of it.
# `mv -T -n` moves into no folder that came in between; that it did not move shows by what is left.
_UNPACK: Final = """
set -eu
cd -- "$1"
[ ! -e "$2" ] && [ ! -L "$2" ] || exit 7
part=$(mktemp -d ".jupbox-$2.XXXXXXXX")
trap 'chmod -R u+rwX -- "$part" 2>/dev/null; rm -rf -- "$part"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -- "$part/all"
tar --extract --no-same-owner --file - --directory "$part/all"
rm -- "$part/all/$3"
mv -T -n -- "$part/all" "$2"
[ ! -e "$part/all" ] || exit 7
"""
# the last of the archive: without it, the rest of the files did not come
_END: Final = ".jupbox-end-of-archive"


def place_files(
    site: Site, container: Container, account: Account, *, source: Path, name: str
) -> bool:
    """Copy a folder to where the notebooks are, with all that is in it; never over anything.

    Args:
        container: the running server's, which sees the user's folder.
        source: the folder on this machine.
        name: what it is called there.

    Returns:
        Whether it was copied; False: there is something of that name, which was left alone.

    Raises:
        FilesError: it could not be copied; nothing of it is left there.
    """
    try:
        done = site.engine.send(
            container.id,
            ["sh", "-c", _UNPACK, "sh", f"{account.home}/notebooks", name, _END],
            user=f"{account.uid}:{account.gid}",
            write=lambda pipe: _archive(source, pipe),
        )
    except OSError as error:
        raise FilesError(
            f"{error.filename or source} cannot be read: {error.strerror}.",
            remedy="Mend its permissions; the same command tries again.",
        ) from None
    if done.returncode == 0:
        return True
    if done.returncode == _THERE:
        return False
    if lost := site.engine.unreachable():
        raise lost
    said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
    raise FilesError(
        f"The files of {name} could not be copied to {site.machine.name}: {said[-1][:120]}.",
        remedy="Mend the folder there (room, permissions); the same command tries again.",
    )


def _archive(source: Path, pipe: IO[bytes]) -> None:
    """Write a folder as a tar, file by file, as its owner sees it."""
    with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(source.iterdir()):
            archive.add(path, arcname=path.name)
        archive.addfile(tarfile.TarInfo(_END))
