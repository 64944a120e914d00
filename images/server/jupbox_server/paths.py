"""Where things are inside the container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The port inside the container; what it is on the host is compose's affair.
PORT = 8888

SEAL = Path("/etc/jupbox/seal")
CONTROL_SOCKET = Path("/run/jupbox/control.sock")


def runtime_in(folder: Path) -> Path:
    """Where connection files are: in memory, so that a kernel starts on a full disk as well."""
    return folder / "jupyter"


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The seal's files and the control socket.

    Args:
        seal: directory with certificate, key, password hash and description.
        control: the unix socket of the owner, in a directory that only they enter.
    """

    seal: Path = SEAL
    control: Path = CONTROL_SOCKET

    @property
    def certificate(self) -> Path:
        """The leaf, then its CA chain, PEM."""
        return self.seal / "cert.pem"

    @property
    def key(self) -> Path:
        """The leaf's private key, PEM, not encrypted."""
        return self.seal / "key.pem"

    @property
    def password_hash(self) -> Path:
        """One line, `argon2:$argon2id$…`."""
        return self.seal / "password.hash"

    @property
    def description(self) -> Path:
        """`{"generation": int, "id": str, "names": [...]}`."""
        return self.seal / "seal.json"
