"""`logs`: what the server says, and who changed it."""

from __future__ import annotations

from jupbox import audit
from jupbox.console import Console
from jupbox.errors import EngineError
from jupbox.host import facts as host_facts
from jupbox.host.exclusion import Record
from jupbox.project import Box, Project
from jupbox.site import Surroundings, load_project, machine_of, stack_name
from jupbox.workflows.found import container_of, find, look, place

_HEADER = ("When", "Who", "Revision", "Command", "Outcome")


def logs(
    box_name: str | None, *, around: Surroundings, console: Console, follow: bool,
    since: str | None, tail: str, changes: bool, as_json: bool,
) -> int:  # fmt: skip
    """Show the server's log, or the box's record of changes."""
    if changes:
        _show_changes(
            box_name, around=around, console=console, since=since, tail=tail, as_json=as_json
        )
        return 0
    found = find(box_name, around=around, console=console)
    container = container_of(found, running=False)
    engine = found.site.engine
    try:
        code = engine.logs(container.id, tail=tail, since=since, follow=follow)
    except KeyboardInterrupt:
        return 0  # how one ends a log that is followed
    if code and (trouble := engine.unreachable()):
        raise trouble
    return code


def _show_changes(
    box_name: str | None, *, around: Surroundings, console: Console, since: str | None, tail: str,
    as_json: bool,
) -> None:  # fmt: skip
    now = around.now().astimezone()
    project = load_project(around)
    box = project.box(box_name)
    record = _record(project, box, around)
    entries = audit.chosen(
        audit.read_entries(record.text, holder=record.holder),
        since=audit.since_when(since, now=now) if since else None,
        tail=int(tail) if tail.isdigit() else None,
    )
    if as_json:
        console.json([entry.json() for entry in entries])
    elif entries:
        console.table(_HEADER, tuple(audit.columns(entries, now=now)))
    else:
        then = " since then" if since else ""
        console.line(f"No change of {box.name} is recorded on {place(box)}{then}.")


def _record(project: Project, box: Box, around: Surroundings) -> Record:
    """What the box keeps; an engine that is out of order keeps nobody from reading it."""
    try:
        site = look(project, box, around).site
    except EngineError:
        machine = machine_of(box)
        owner = host_facts.look(machine).owner
        return machine.recorded(stack_name(owner, box))
    return site.machine.recorded(site.stack)
