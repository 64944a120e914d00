"""A certificate that is due is renewed by whichever command comes by."""

from __future__ import annotations

from jupbox import pki
from jupbox.console import Console
from jupbox.errors import JupboxError
from jupbox.host import stack as stacks
from jupbox.host.stack import State
from jupbox.release import sealing
from jupbox.site import Site
from jupbox.workflows.turn import turn


def renew_if_due(site: Site, state: State, console: Console) -> State:
    """Renew a certificate of which a third of its life or less is left, with no restart.

    Whoever only wants to look is not stopped by a renewal that fails.
    """
    try:
        if sealing.is_cut_off(site, state):
            with turn(site, "renew", console=console):
                # anew under the lock: who held it may have finished it, or changed more
                state = sealing.settle(site, stacks.observe(site.engine, site.stack))
        public = stacks.public_certificates(site.engine, state)
        if public is None or not pki.needs_renewal(public.leaf_pem, now=site.around.now()):
            return state
        if sealing.own_fingerprint(site, state):
            console.note(
                f"tls.cert of {site.box.name} expires {pki.expires(public.leaf_pem):%Y-%m-%d}."
            )
            return state
        with (
            turn(site, "renew", console=console),
            console.stage("Renewing the certificate"),
        ):
            sealing.renew(site, stacks.observe(site.engine, site.stack), public.leaf_pem)
        return stacks.observe(site.engine, site.stack)
    except JupboxError as error:
        console.note(f"The certificate was not renewed: {error.message}")
        return state
