"""`trust`: the box's CA into this user's trust stores."""

from __future__ import annotations

from jupbox import pki
from jupbox.console import Console
from jupbox.errors import (
    NotRunningError,
)
from jupbox.host import stack as stacks
from jupbox.host import trust as trust_stores
from jupbox.site import Surroundings
from jupbox.workflows.found import find, place


def trust(
    box_name: str | None, *, around: Surroundings, console: Console, print_only: bool
) -> None:
    """Have this user's browsers trust the box's certificate."""
    found = find(box_name, around=around, console=console)
    public = stacks.public_certificates(found.site.engine, found.state)
    if public is None:
        raise NotRunningError(
            f"There is no certificate on {place(found.site.box)} yet.",
            remedy=f"`jupbox up{found.site.command}` makes one.",
        )
    if print_only:
        console.line(public.authority_pem.decode().strip())
        return
    result = trust_stores.trust(
        ca_pem=public.authority_pem,
        nickname=pki.authority_name(found.site.box.name),
        home=around.home,
        system=True,
    )
    for store in result.added:
        console.line(f"Trusted from now on in {store.location} ({store.kind}).")
    for store in result.already:
        console.line(f"Trusted already in {store.location} ({store.kind}).")
    for store, reason in result.skipped:
        console.note(f"{store.location} ({store.kind}) was left alone: {reason}.")
