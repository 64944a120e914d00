"""`password`: another one, at once."""

from __future__ import annotations

from dataclasses import replace

from jupbox.console import Console
from jupbox.errors import PasswordError
from jupbox.host import stack as stacks
from jupbox.password import check_password, generate_password, hash_password
from jupbox.release import sealing
from jupbox.secret import Secret
from jupbox.site import Site, Surroundings
from jupbox.workflows.found import container_of, find
from jupbox.workflows.turn import turn


def password(
    box_name: str | None, *, around: Surroundings, console: Console, stdin: bool, generate: bool,
    wait: bool,
) -> None:  # fmt: skip
    """Set another password; the running server takes it at once, and old logins end."""
    if generate:
        chosen = generate_password()
    elif stdin:
        chosen = console.read_secret()
        check_password(chosen.reveal())
    else:
        chosen = _asked_password(console)
    found = find(box_name, around=around, console=console)
    container_of(found, running=False)
    try:
        with (
            turn(found.site, "password", console=console, wait=wait),
            console.stage("Setting the password"),
        ):
            _set_password(found.site, chosen)
    finally:
        # also when it was cut off: it may hold already, or from the next command on
        if generate:
            console.facts([("Password", chosen.reveal())])
    console.line("The new password holds from now on; whoever was logged in must log in again.")


def _set_password(site: Site, chosen: Secret) -> None:
    state = stacks.observe(site.engine, site.stack)
    last = sealing.credentials_in_force(site, state)
    sealing.seal_live(site, state, replace(last, password_hash=hash_password(chosen)))


def _asked_password(console: Console) -> Secret:
    chosen = console.ask_secret("New password: ")
    check_password(chosen.reveal())
    if console.ask_secret("Once more: ") != chosen:
        raise PasswordError(
            "The two passwords differ.", remedy="Nothing was changed; run it again."
        )
    return chosen
