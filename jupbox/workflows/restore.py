"""`restore`: a backup back as the home volume; what was there is kept."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final

from jupbox.backup import Checked
from jupbox.composed import port_of
from jupbox.console import Console
from jupbox.errors import BackupError
from jupbox.host import archives
from jupbox.host import stack as stacks
from jupbox.host.signals import uninterrupted
from jupbox.host.stack import State
from jupbox.release import backing, deploying, inside, restoring
from jupbox.site import Site, Surroundings, load_project
from jupbox.workflows.backup import contents
from jupbox.workflows.found import Found, look, place, settled
from jupbox.workflows.guard import Consent, ensure_idle
from jupbox.workflows.turn import turn

_IN_MEMORY: Final = 8 << 20


def restore(
    box_name: str, *, around: Surroundings, console: Console, file: str | None,
    from_other: bool, yes: bool, consent: Consent, wait: bool,
) -> None:  # fmt: skip
    """Bring a backup back into a fresh home volume and run the box with it.

    Args:
        box_name: where to.
        around: where the file is.
        console: says what is done.
        file: `-` is standard input; None takes what the last restore kept.
        from_other: another box's or owner's will do.
        yes: go on, though the volume that an earlier restore kept goes.

    Raises:
        BackupError: it is not whole, or of another box; nothing was touched.
    """
    project = load_project(around)
    box = project.box(box_name)
    console.standing = f"{place(box)} has what it had; a volume that was begun is taken away."
    with console.stage(f"Connecting to {place(box)}", live=False):
        found = look(project, box, around)
    site = found.site
    with (
        _archive(found, file, console) as (archive, source),
        tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as lines,
    ):
        with console.stage(f"Checking {source}") as stage:
            checked = backing.check(archive, lines=lines, source=source, stage=stage)
        _refuse_other(site, checked, source, from_other=from_other)
        given = _Given(archive=archive, lines=lines, checked=checked, source=source)
        words = (source,) if file not in {None, "-"} else (file or "--undo",)
        with turn(site, "restore", console=console, wait=wait, arguments=words):
            # anew under the lock: who held it may have changed everything
            found = settled(site)
            older = restoring.kept_before(found.state)
            if older and file is not None:
                console.confirm(
                    f"{', '.join(older)}, kept by the last restore, will be removed. Go on?",
                    yes=yes,
                )

            def ask(*, wait: bool) -> None:
                ensure_idle(found, verb="restore", consent=consent, console=console, wait=wait)

            ask(wait=False)
            _into(found, given, console, ask=partial(ask, wait=True))
            for name in older:
                site.engine.remove_volume(name)
    _report(found, checked, console)


@dataclass(frozen=True, kw_only=True)
class _Given:
    """A backup that was checked.

    Attributes:
        archive: its file.
        lines: its manifest's line of each entry.
        source: how messages call it.
    """

    archive: IO[bytes]
    lines: IO[bytes]
    checked: Checked
    source: str


def _into(found: Found, given: _Given, console: Console, *, ask: Callable[[], None]) -> None:
    """Restore, and run the server with it.

    Args:
        found: the box.
        given: the backup.
        console: says what is done.
        ask: called again right before what runs is ended: hours may have gone by.
    """
    site, state = found.site, found.state
    image = backing.image_of(site, state)
    with restoring.fresh_volume(site, state) as volume:
        with console.stage(f"Restoring into a fresh volume on {place(site.box)}") as stage:
            given.archive.seek(0)
            backing.fill(
                site, image, volume, given.archive, lines=given.lines, source=given.source,
                owners=backing.owners(site, state, given.checked), stage=stage,
            )  # fmt: skip
        if state.container:
            ask()
            _swap(found, volume, console)


def _swap(found: Found, volume: str, console: Console) -> None:
    """Run the server with the fresh volume; with the old one again where that fails."""
    site, state = found.site, found.state
    try:
        with uninterrupted(), console.stage(f"Starting the server with it on {place(site.box)}"):
            composed = restoring.swap(site, state, home=volume)
        with console.stage("Waiting for its answer over HTTPS"):
            now = stacks.observe(site.engine, site.stack)
            public = stacks.public_certificates(site.engine, now)
            assert public is not None, "it was sealed once"
            deploying.wait(site, port_of(composed), public)
    except BaseException:
        with uninterrupted(), console.stage("Going back to what it had"):
            _back(site, state)
        raise
    container = stacks.server_of(site.engine, site.stack)
    if container and state.account:
        definition = site.project.image(site.box.image)
        # the backup's is of the network that was there then
        inside.hand_over_network(site, container, state.account, definition)


def _back(site: Site, state: State) -> None:
    restoring.swap(site, state, home=state.home_volume)
    now = stacks.server_of(site.engine, site.stack)
    if now and state.container and not state.container.running:
        site.engine.stop(now.id, for_good=True)


# --- what is given ------------------------------------------------------------------------------


@contextmanager
def _archive(found: Found, file: str | None, console: Console) -> Iterator[tuple[IO[bytes], str]]:
    """The backup as a file that can be read twice, and how messages call it."""
    folder = found.site.around.cwd
    if file not in {None, "-"}:
        path = folder / Path(str(file)).expanduser()
        with archives.opened(path) as archive:
            yield archive, path.name
        return
    if file and sys.stdin.isatty():
        raise BackupError(
            "A terminal gives no backup.",
            remedy="Name the file, or send it in: `jupbox restore BOX - < FILE`.",
        )
    # it has no name: nothing is left of it, whatever ends us
    with tempfile.TemporaryFile(dir=folder) as whole:
        source = _received(whole, console) if file else _kept(found, whole, console)
        whole.seek(0)
        yield whole, source


def _received(whole: IO[bytes], console: Console) -> str:
    with console.stage("Reading standard input"):
        shutil.copyfileobj(sys.stdin.buffer, whole, 1 << 20)
    return "What came on standard input"


def _kept(found: Found, whole: IO[bytes], console: Console) -> str:
    """Back up what the last restore kept; the volume's name."""
    site, state = found.site, found.state
    volume = max(restoring.kept_before(state), key=lambda n: state.home_number(n) or 0, default="")
    if not volume:
        raise BackupError(
            f"No restore of {site.box.name} has kept anything on {site.machine.name}.",
            remedy="Nothing was changed. Name the file of a backup.",
        )
    with console.stage(f"Reading {volume}") as stage:
        backing.write_backup(site, state, whole, stage=stage, volume=volume)
    return volume


def _refuse_other(site: Site, checked: Checked, source: str, *, from_other: bool) -> None:
    about = checked.about
    if from_other or about.stack == site.stack:
        return
    raise BackupError(
        f"{source} is of {about.owner}'s box {about.box}, and this is {site.facts.owner}'s "
        f"{site.box.name}.",
        remedy="Nothing was changed. If that is what you want, add --from-other.",
    )


def _report(found: Found, checked: Checked, console: Console) -> None:
    site, state = found.site, found.state
    console.line(
        f"Restored: {contents(checked)} of {checked.about.made[:16].replace('T', ' ')} UTC."
    )
    if state.container is None:
        console.line(f"`jupbox up{site.command}` starts a server with it.")
    elif not state.container.running:
        console.line("The server was stopped; it runs now.")
    if state.home_volume in state.volumes:
        console.line(
            f"{state.home_volume}, from before, is kept until the next restore; "
            f"`jupbox restore{site.command} --undo` goes back to what is in it."
        )
