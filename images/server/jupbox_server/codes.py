"""Control logins: codes that open the server once, within a minute."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: Long enough for a tunnel and a browser to start, in seconds.
LIFETIME = 60.0
#: Codes that can wait at a time; the oldest goes first.
OUTSTANDING = 32


@dataclass(frozen=True, kw_only=True)
class _Code:
    expires: float
    target: str


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


class LoginCodes:
    """Mints and consumes codes; keeps their digests only, in memory only.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._codes: OrderedDict[bytes, _Code] = OrderedDict()

    def mint(self, target: str) -> str:
        """A new code that leads to the path `target`."""
        code = secrets.token_urlsafe(32)
        self._codes[_digest(code)] = _Code(expires=self._clock() + LIFETIME, target=target)
        while len(self._codes) > OUTSTANDING:
            self._codes.popitem(last=False)
        return code

    def consume(self, code: str) -> str | None:
        """The path that `code` leads to, once; None if it is used, too old or unknown."""
        found = self._codes.pop(_digest(code), None)
        return found.target if found and found.expires >= self._clock() else None


def is_local_path(target: str) -> bool:
    """Whether a redirect to `target` stays on this server, whatever a browser makes of it."""
    plain = all(" " < character < "\x7f" and character != "\\" for character in target)
    return plain and target.startswith("/") and not target.startswith("//")
