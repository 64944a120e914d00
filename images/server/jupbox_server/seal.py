"""The seal as it stands on disk: password hash, description, and the names it is for.

Every question reads the file anew: a hundred bytes cost microseconds, and no cache can then
miss a file that was replaced, or rewritten within one tick of the file system's clock.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from pathlib import Path
from typing import Any

# Base64 without padding; the salt of 8 bytes and the digest of 16 are argon2's own recommended
# least, so a cut-off line is no hash.
_HASH = re.compile(
    r"argon2:\$argon2id\$v=19\$m=\d{1,8},t=\d{1,4},p=\d{1,3}\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}"
)


class SealError(Exception):
    """The seal cannot be used; the message says why and holds no secret."""


def read_hash(path: Path) -> str:
    """Read the password hash, in Jupyter's own format.

    Raises:
        SealError: the file is missing, unreadable, empty, or holds no argon2id hash.
    """
    try:
        text = path.read_bytes().decode("ascii", errors="replace").strip()
    except OSError as error:
        raise SealError(f"the password hash {path} cannot be read: {error.strerror}") from None
    if not text:
        raise SealError(f"the password hash {path} is empty")
    if not _HASH.fullmatch(text):
        raise SealError(f"{path} does not hold one argon2id password hash")
    return text


def current_hash(path: Path) -> str | None:
    """The password hash, or None while the file cannot be used."""
    try:
        return read_hash(path)
    except SealError:
        return None


def fingerprint(password_hash: str) -> str:
    """A short public name of a hash: 64 bits of SHA-256.

    It stands in the cookie's name. The hash holds 128 bits of random salt, so nothing about the
    password can be tried against it.
    """
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16]


def description(path: Path) -> dict[str, Any] | None:
    """What `seal.json` says, or None if it is not there or not readable."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def names(path: Path) -> tuple[str, ...]:
    """The names and addresses that the seal is for, as `seal.json` lists them."""
    value = (description(path) or {}).get("names")
    return tuple(str(name) for name in value) if isinstance(value, list) else ()


def host_allowed(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a request's Host header names this box.

    Localhost and loopback addresses always do (the tunnel's end), else one of `allowed`, where
    `*.example.org` stands for one further label. Any port is right: the tunnel chooses its own.
    """
    name = re.sub(r":\d*$", "", host.strip()).strip("[]").rstrip(".").lower()
    known = {entry.strip().rstrip(".").lower() for entry in allowed} | {"localhost"}
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and (name in known or f"*.{name.partition('.')[2]}" in known)
    return address.is_loopback or str(address) in known
