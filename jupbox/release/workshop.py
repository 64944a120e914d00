"""Where a box's environment images are locked and built."""

from __future__ import annotations

from dataclasses import replace

from jupbox.errors import EngineError
from jupbox.host import facts as host_facts
from jupbox.host.machine import LocalMachine
from jupbox.project import LOCAL, Box
from jupbox.site import Site, site_of


def of(site: Site) -> Site:
    """The site whose engine locks and builds for a box: the box itself, or this machine.

    Raises:
        EngineError: this machine has no engine, or makes images for another architecture.
        EnginePermissionError: its socket is not ours to use.
    """
    return site if site.box.build == "box" or site.machine.is_local else here(site)


def here(site: Site) -> Site:
    """The site of a box, but with this machine's engine.

    Raises:
        EngineError: this machine has none, or it makes images for another architecture.
        EnginePermissionError: its socket is not ours to use.
    """
    machine = LocalMachine()
    local = site_of(
        site.project,
        Box(name=LOCAL, host=LOCAL),
        site.around,
        machine=machine,
        facts=host_facts.look(machine),
    )
    if local.facts.architecture != site.facts.architecture:
        raise EngineError(
            f"The engine of this machine makes {local.facts.architecture} images, and "
            f"{site.machine.name} is {site.facts.architecture}.",
            remedy='Set build = "box" for it in jupbox.toml, or run jupbox on a machine of its '
            "architecture.",
        )
    return replace(site, machine=local.machine, facts=local.facts, engine=local.engine)
