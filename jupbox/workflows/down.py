"""`down`: stop, and keep everything."""

from __future__ import annotations

from jupbox.console import Console
from jupbox.host.stack import observe
from jupbox.release import sidecars
from jupbox.site import Surroundings, load_project
from jupbox.workflows.found import Found, container_of, look, place
from jupbox.workflows.guard import Consent, ensure_idle
from jupbox.workflows.turn import turn


def down(
    box_name: str | None, *, around: Surroundings, console: Console, wait: bool, consent: Consent
) -> None:
    """Stop the server and keep everything."""
    project = load_project(around)
    found = look(project, project.box(box_name), around)
    site = found.site
    container_of(found, running=False)
    with turn(site, "down", console=console, wait=wait) as mine:
        # anew under the lock: who held it may have changed everything
        found = Found(site=site, state=observe(site.engine, site.stack))
        container = container_of(found, running=False)
        if not container.running:
            console.line(f"Nothing to do: the server on {place(site.box)} is stopped already.")
            mine.found_nothing()
            return
        ensure_idle(found, verb="down", consent=consent, console=console)
        with console.stage(f"Stopping the server on {place(site.box)}"):
            site.engine.stop(container.id, for_good=True)
            for each in sidecars.running(site).values():
                site.engine.stop(each.id)
    console.line(f"Stopped; everything is kept. `jupbox up{site.command}` starts it again.")
