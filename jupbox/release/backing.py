"""The home volume into an archive on this machine, and an archive into a fresh volume.

A container of the box's own image reads and writes the volume: it is there for that alone, has no
network and looks at nothing else. Between it and the archive every byte passes `backup.check`.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, Final

from jupbox import assets, backup
from jupbox import labels as label
from jupbox.backup import About, Checked
from jupbox.console import Stage
from jupbox.errors import BackupError, DiskFullError, EngineError, JupboxError, NotRunningError
from jupbox.host import archives, backups
from jupbox.host import stack as stacks
from jupbox.host.backups import LastBackup
from jupbox.host.engine import Piped
from jupbox.host.stack import State
from jupbox.release.deploying import account_of
from jupbox.release.sealing import who
from jupbox.site import Site

Owners = Mapping[str, Mapping[int, int]]

_VOLUME: Final = "/volume"
_CHUNK: Final = 1 << 20
_TO_READ: Final = ("DAC_READ_SEARCH",)
_TO_WRITE: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")
_IN_MEMORY: Final = 8 << 20
# how the script in the container ends when we do not want the rest
_ABANDONED: Final = 3


def image_of(site: Site, state: State) -> str:
    """An image of the box's that has a Python: the container's, the newest seal, or any other.

    Raises:
        NotRunningError: there is none.
    """
    engine = site.engine
    wanted = [state.container.image] if state.container else []
    wanted += [release.image.id for release in state.releases]
    wanted += [image.id for image in engine.images({label.KIND: "environment"})]
    found = next((name for name in wanted if engine.image(name)), None)
    if found is None:
        raise NotRunningError(
            f"No image of jupbox is on {site.machine.name}, and only in one can a volume be read "
            "or written.",
            remedy=f"Nothing was changed. Run `jupbox up{site.command}` first, then this again.",
        )
    return found


def about(site: Site, state: State) -> About:
    """Of what a backup that is made now is."""
    labels = state.container.labels if state.container else {}
    return About(
        box=site.box.name,
        stack=site.stack,
        owner=site.facts.owner,
        account=stacks.account_text(state.account) if state.account else "",
        made=site.around.now().isoformat(timespec="seconds"),
        who=who(),
        version=version("jupbox"),
        lock=labels.get(label.LOCK, ""),
        notebooks=labels.get(label.FILES, site.box.files),
    )


# --- out of a volume ----------------------------------------------------------------------------


def write_backup(
    site: Site, state: State, out: IO[bytes], *, stage: Stage, volume: str | None = None
) -> Checked:
    """Back the home volume up into a file or a pipe.

    Args:
        site: the box.
        state: what is there.
        out: gets the packed archive.
        stage: told how far it is.
        volume: another one that is there.

    Raises:
        BackupError: there is no volume, or what came of it is not whole.
        NotRunningError: there is no image to read it with.
        EngineError: the engine refuses.
        HostError: the connection was lost.
    """
    volume = volume or state.home_volume
    if volume not in state.volumes:
        raise BackupError(
            f"There is no home volume of {site.box.name} on {site.machine.name}.",
            remedy=f"There is nothing to back up; `jupbox up{site.command}` makes one.",
        )
    text = about(site, state).text()
    command = [*_script("read"), text, *_packed(site)]
    with (
        site.engine.piped(
            image_of(site, state), command, volumes={volume: f"{_VOLUME}:ro"},
            capabilities=_TO_READ,
        ) as container,
        archives.packing(out) as write,
        tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as lines,
    ):  # fmt: skip
        came = _Watched(_unpacked(site, container.output), stage, "read")

        def read(size: int) -> bytes:
            content = came.read(size)
            write(content)
            return content

        try:
            checked = backup.check(read, lines=lines, source="What came from the box")
        except BackupError as error:
            raise _failure(site, container, "reading the home volume") or error from None
        if failure := _failure(site, container, "reading the home volume"):
            raise failure
    return checked


def remember(site: Site, checked: Checked) -> None:
    """Keep on the box that this backup is good."""
    last = LastBackup(made=site.around.now(), who=who(), bytes=checked.bytes)
    backups.remember(site.machine, site.stack, last)


def write_file(site: Site, state: State, path: Path, *, stage: Stage) -> Checked:
    """Back the home volume up into a file that is there when it is whole; see `write_backup`.

    Raises:
        BackupError: it cannot be written, too.
    """
    with archives.new_file(path) as file:
        checked = write_backup(site, state, file, stage=stage)
    remember(site, checked)
    return checked


# --- into a volume ------------------------------------------------------------------------------


def check(file: IO[bytes], *, lines: IO[bytes], source: str, stage: Stage) -> Checked:
    """Read a whole archive and change nothing; see `backup.check`.

    Args:
        file: from its beginning.
        lines: an empty file; afterwards it has the manifest's line of each entry.
        source: how messages call it.
        stage: told how far it is.
    """
    came = _Watched(archives.unpacking(file, source), stage, "checked")
    checked = backup.check(came.read, lines=lines, source=source)
    if came.read(1):  # of the frame there may be more than of the tar
        raise BackupError(f"{source} is no whole backup.", remedy="Take another backup.")
    return checked


def owners(site: Site, state: State, checked: Checked) -> Owners:
    """What numbers of the archive's user become where the box's user has others."""
    if not checked.about.account:
        return {}
    was = stacks.read_account(checked.about.account)
    now = account_of(site, state)
    return {
        "uid": {was.uid: now.uid} if was.uid != now.uid else {},
        "gid": {was.gid: now.gid} if was.gid != now.gid else {},
    }


def fill(
    site: Site, image: str, volume: str, file: IO[bytes], *, lines: IO[bytes], owners: Owners,
    source: str, stage: Stage,
) -> None:  # fmt: skip
    """Unpack an archive into an empty volume, and compare all that is there then.

    Args:
        image: what `image_of` found.
        volume: its name.
        file: the archive, from its beginning.
        lines: what `check` wrote.
        owners: what `owners` found.
        source: how messages call the archive.
        stage: told how far it is.

    Raises:
        DiskFullError: the box has no room for it.
        BackupError: what is in the volume is not what the archive says.
        EngineError: the engine refuses.
        HostError: the connection was lost.
    """
    command = [*_script("write"), json.dumps(owners), *_packed(site)]
    with site.engine.piped(
        image, command, volumes={volume: _VOLUME}, capabilities=_TO_WRITE
    ) as container:
        came = _Watched(archives.unpacking(file, source), stage, "restored")
        send = _packing(site, container.input)
        # one that ends early closes its input; why it did is looked at below
        with suppress(BrokenPipeError):
            while content := came.read(_CHUNK):
                send(content)
            send(b"")
            container.input.close()
        stage.detail("comparing what is there")
        lines.seek(0)
        wrong = next((one for one in lines if not _is_next(container.output, one, owners)), None)
        more = wrong is None and container.output.read(1)
        if failure := _failure(site, container, "writing the home volume"):
            raise failure
    if wrong or more:
        what = backup.path_of(wrong) if wrong else "something that is not in the backup"
        raise BackupError(
            f"What was written on {site.machine.name} is not what was sent: {what}.",
            remedy="Nothing was changed. Look whether that machine's disk is sound.",
        )


def _is_next(output: IO[bytes], line: bytes, owners: Owners) -> bool:
    found = output.readline()
    return bool(found) and backup.is_same(line, found, owners)


# --- the container and the way to it ------------------------------------------------------------


def _script(verb: str) -> list[str]:
    """The command line of what reads and writes volumes; the image may be an older jupbox's."""
    text = (assets.folder("images") / "backup" / "volume.py").read_text(encoding="utf-8")
    return ["/opt/env/bin/python", "-I", "-X", "utf8", "-c", text, verb, _VOLUME]


def _packed(site: Site) -> list[str]:
    # a network is slower than a little compression, and a pipe is not
    return [] if site.machine.is_local else ["packed"]


def _failure(site: Site, container: Piped, what: str) -> JupboxError | None:
    """Why the container failed; None if it did not."""
    done = container.end()
    if done.returncode in {0, _ABANDONED}:
        return None
    said = done.stderr.decode(errors="replace").strip()
    last = said.splitlines()[-1] if said else ""
    try:
        values = json.loads(last)
        if values["errno"] in {errno.errorcode[number] for number in (errno.ENOSPC, errno.EDQUOT)}:
            return DiskFullError(
                f"The disk of {site.machine.name} has no room for the backup.",
                remedy="Nothing was changed. Free some there; `docker system df` says what Docker "
                "holds.",
            )
        where = f" at {backup.shown(values['path'])}" if values["path"] else ""
        return EngineError(
            f"{what.capitalize()} on {site.machine.name} failed{where}: {values['error']}",
            remedy="Nothing was changed. Mend that, then run the same command again.",
        )
    except (ValueError, KeyError, TypeError):
        return site.engine.error(what, said)


class _Watched:
    """Hands on what is read, and says from time to time how much that was."""

    def __init__(self, read: Callable[[int], bytes], stage: Stage, done: str) -> None:
        self._read, self._stage, self._done = read, stage, done
        self._bytes = 0
        self._begun = time.monotonic()
        self._next = self._begun + 1

    def read(self, size: int) -> bytes:
        content = self._read(size)
        self._bytes += len(content)
        now = time.monotonic()
        if now > self._next:
            # rarer with time: where no terminal is, each is a line
            self._next = now + max(1.0, (now - self._begun) / 8)
            self._stage.detail(f"{self._bytes / 1e6:.0f} MB {self._done}")
        return content


def _unpacked(site: Site, output: IO[bytes]) -> Callable[[int], bytes]:
    return output.read if site.machine.is_local else _Inflating(output).read


def _packing(site: Site, pipe: IO[bytes]) -> Callable[[bytes], None]:
    """What sends content; nothing ends it."""
    if site.machine.is_local:
        return lambda content: None if not content else _all(pipe, content)
    packer = zlib.compressobj(1)
    return lambda content: _all(pipe, packer.compress(content) if content else packer.flush())


def _all(pipe: IO[bytes], content: bytes) -> None:
    pipe.write(content)


class _Inflating:
    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._unpacker = zlib.decompressobj()
        self._ready, self._start = b"", 0

    def read(self, size: int) -> bytes:
        while self._start >= len(self._ready):
            if self._unpacker.eof:
                return b""
            packed = self._unpacker.unconsumed_tail or os.read(self._packed.fileno(), _CHUNK)
            try:
                self._ready = self._unpacker.decompress(packed, _CHUNK)
            except zlib.error:
                return b""  # cut off, or words of docker's: that it ends too early is seen
            self._start = 0
            if not packed and not self._ready:
                return b""
        part = self._ready[self._start : self._start + size]
        self._start += len(part)
        return part
