"""`logs`: what the server says."""

from __future__ import annotations

from jupbox.console import Console
from jupbox.site import Surroundings
from jupbox.workflows.found import container_of, find


def logs(
    box_name: str | None, *, around: Surroundings, console: Console, follow: bool,
    since: str | None, tail: str,
) -> int:  # fmt: skip
    """Show the server's log."""
    found = find(box_name, around=around, console=console)
    container = container_of(found, running=False)
    try:
        return found.site.engine.logs(container.id, tail=tail, since=since, follow=follow)
    except KeyboardInterrupt:
        return 0  # how one ends a log that is followed
