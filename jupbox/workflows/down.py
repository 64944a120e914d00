"""`down`: stop, and keep everything."""

from __future__ import annotations

from jupbox.console import Console
from jupbox.release import sidecars
from jupbox.site import Surroundings, load_project
from jupbox.workflows.found import container_of, look, place
from jupbox.workflows.guard import Consent, ensure_idle


def down(box_name: str | None, *, around: Surroundings, console: Console, consent: Consent) -> None:
    """Stop the server and keep everything."""
    project = load_project(around)
    found = look(project, project.box(box_name), around)
    container = container_of(found, running=False)
    if not container.running:
        console.line(f"Nothing to do: the server on {place(found.site.box)} is stopped already.")
        return
    ensure_idle(found, verb="down", consent=consent, console=console)
    with console.stage(f"Stopping the server on {place(found.site.box)}"):
        found.site.engine.stop(container.id)
        for each in sidecars.running(found.site).values():
            found.site.engine.stop(each.id)
    console.line(f"Stopped; everything is kept. `jupbox up{found.site.command}` starts it again.")
