"""Into the running server: its way to the network, and packages beside the image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from jupbox.errors import ResolveError
from jupbox.host import network as networks
from jupbox.host.inspected import Container
from jupbox.lock import PythonPackage
from jupbox.project import ImageDefinition
from jupbox.release.locking import network_of
from jupbox.render import Account, requirement_line
from jupbox.site import Site

_INSTALL_SECONDS: Final = 1800


def room(name: str, *arguments: str) -> list[str]:
    """The command line of one of the server's own rooms, inside the container."""
    return ["/opt/env/bin/python", "-P", "-m", f"jupbox_server.{name}", *arguments]


def hand_over_network(
    site: Site, container: Container, account: Account, definition: ImageDefinition
) -> str | None:
    """Let `%pip` in the server find what builds find: the index, the proxy, the network's CA.

    It goes on standard input into files of the home volume that only the user reads.

    Returns:
        Why it did not work; None if it did, or there is nothing to tell.
    """
    ca_path = f"{account.home}/.config/jupbox/ca.pem"
    files = networks.files_for_pip(network_of(site, definition), ca_path=ca_path)
    if not files:
        return None
    done = site.engine.execute(
        container.id,
        room("network"),
        user=f"{account.uid}:{account.gid}",
        input=json.dumps(files).encode(),
    )
    return None if done.returncode == 0 else _last(done.stderr)


def install_beside(
    site: Site, container: Container, account: Account, packages: Sequence[PythonPackage], *,
    environment: str,
) -> None:  # fmt: skip
    """Install exact versions, hashes checked, beside the image of the running server.

    Args:
        packages: with hashes; nothing is resolved.
        environment: `default`, or a further kernel's name.

    Raises:
        ResolveError: pip did not; its last words are in the message.
    """
    done = site.engine.execute(
        container.id,
        room("side", "install", "--env", environment),
        user=f"{account.uid}:{account.gid}",
        input="".join(map(requirement_line, packages)).encode(),
        timeout=_INSTALL_SECONDS,
    )
    if done.returncode != 0:
        raise ResolveError(
            f"The packages could not be installed in the running server: {_last(done.stderr)}",
            remedy="Nothing was changed. Look at its network, and at the room in its home volume.",
        )


def _last(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"
