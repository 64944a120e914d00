"""A registry as an engine sees it: whether an image is there, and whether we may have it.

The engine is asked, not the registry: it is the one that will pull. Credentials are those of this
machine's docker command line, which hands them to the engine with each request.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jupbox.errors import EngineError
from jupbox.host.engine import Engine
from jupbox.secret import Secret

_SECONDS: Final = 60
_HELPER_SECONDS: Final = 60


class Standing(Enum):
    """What an engine finds at a registry."""

    THERE = "there"
    MISSING = "missing"
    LOGIN = "login"
    UNREACHABLE = "unreachable"


_OF_STATUS: Final = {
    200: Standing.THERE,
    404: Standing.MISSING,
    401: Standing.LOGIN,
    403: Standing.LOGIN,
}


def host_of(repository: str) -> str:
    """The registry's host of `host/path`."""
    return repository.partition("/")[0]


def look(engine: Engine, reference: str, *, environ: Mapping[str, str], home: Path) -> Standing:
    """Look whether a registry has an image for an engine.

    Args:
        engine: the one that would pull it.
        reference: `host/path:tag`.
        environ: the user's environment.
        home: the user's home directory.

    Raises:
        HostError: the connection to the engine was lost.
    """
    known = credentials(host_of(reference), environ=environ, home=home)
    standing = _look(engine, reference, known)
    if standing is Standing.UNREACHABLE and known is None:
        # an engine without credentials says the same of a registry that wants some
        nobody = _look(engine, reference, _header({"username": "nobody", "password": "none"}))
        return nobody if nobody is Standing.LOGIN else standing
    return standing


def _look(engine: Engine, reference: str, header: Secret | None) -> Standing:
    headers = {"X-Registry-Auth": header} if header else {}
    try:
        status = engine.request(
            f"/distribution/{quote(reference, safe='/:')}/json", headers, timeout=_SECONDS
        )
    except EngineError:  # a registry that keeps it waiting
        return Standing.UNREACHABLE
    return _OF_STATUS.get(status, Standing.UNREACHABLE)


def credentials(host: str, *, environ: Mapping[str, str], home: Path) -> Secret | None:
    """What this machine's docker would show a registry, as the engine takes it; None for nothing.

    Read as the docker command line reads it: a helper for the host, the helper for all hosts, the
    file itself.
    """
    folder = Path(environ["DOCKER_CONFIG"]) if environ.get("DOCKER_CONFIG") else home / ".docker"
    try:
        settings: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        helper = (settings.get("credHelpers") or {}).get(host) or settings.get("credsStore")
        entry = (settings.get("auths") or {}).get(host) or {}
    except (OSError, ValueError, AttributeError):
        return None
    if helper and (found := _ask(helper, host, environ)):
        return _header(found)
    if token := entry.get("identitytoken"):
        return _header({"identitytoken": token})
    try:
        user, _, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    except ValueError:
        return None
    return _header({"username": user, "password": password.rstrip("\0")}) if user else None


def _ask(helper: str, host: str, environ: Mapping[str, str]) -> dict[str, str] | None:
    """What a credential helper of docker's has for a host."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"], input=host.encode(), capture_output=True,
            env=environ, timeout=_HELPER_SECONDS, check=False,
        )  # fmt: skip
        answer: Any = json.loads(done.stdout) if done.returncode == 0 else {}
        user, secret = answer.get("Username"), answer.get("Secret")
    except (OSError, ValueError, AttributeError, subprocess.TimeoutExpired):
        return None
    if not user or not secret:
        return None
    # the helpers' own word for a token in place of a password
    return (
        {"identitytoken": secret} if user == "<token>" else {"username": user, "password": secret}
    )


def _header(values: Mapping[str, str]) -> Secret:
    return Secret(base64.urlsafe_b64encode(json.dumps(dict(values)).encode()).decode())
