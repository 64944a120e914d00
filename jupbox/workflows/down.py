"""`down`: stop, and keep everything."""

from __future__ import annotations

from jupbox.console import Console
from jupbox.host import stack as stacks
from jupbox.site import Surroundings, connect, load_project
from jupbox.workflows.found import Found, container_of, place


def down(box_name: str | None, *, around: Surroundings, console: Console) -> None:
    """Stop the server and keep everything."""
    project = load_project(around)
    site = connect(project, project.box(box_name), around)
    found = Found(site=site, state=stacks.observe(site.engine, site.stack))
    container = container_of(found, running=False)
    if not container.running:
        console.line(f"Nothing to do: the server on {place(found.site.box)} is stopped already.")
        return
    with console.stage(f"Stopping the server on {place(found.site.box)}"):
        found.site.engine.stop(container.id)
    console.line(f"Stopped; everything is kept. `jupbox up{found.site.command}` starts it again.")
