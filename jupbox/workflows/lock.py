"""`lock`: resolve definitions anew."""

from __future__ import annotations

from jupbox.console import Console
from jupbox.release import locking
from jupbox.site import Surroundings, connect, load_project
from jupbox.workflows.found import place


def lock(names: list[str], *, around: Surroundings, console: Console, on: str | None) -> None:
    """Resolve image definitions anew into the lock; all that boxes use, or the named."""
    project = load_project(around, pinned=False)
    box = project.box(on)
    with console.stage(f"Connecting to {place(box)}", live=False):
        site = connect(project, box, around)
    for name in names or sorted({b.image for b in project.boxes.values()} or {box.image}):
        definition = project.image(name)
        with console.stage(f"Locking {name}") as stage:
            image = locking.resolve_lock(site, definition, stage=stage)
        packages = len(image.python) + sum(len(p.apt) for p in image.platforms.values())
        console.line(f"{name}: {packages} packages locked.")
