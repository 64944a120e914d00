"""Client passes: what an editor or a script shows in place of a password, for a day.

Only the owner has one made, on the control socket. It dies with the password that was in force,
with the server, and after its day; nothing can be configured into one.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: A working day and its evening, in seconds.
LIFETIME = 86_400.0
#: Passes that hold at a time; the oldest goes first.
OUTSTANDING = 32


@dataclass(frozen=True, kw_only=True)
class _Pass:
    expires: float
    fingerprint: str


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class ClientPasses:
    """Mints and knows passes; keeps their digests only, in memory only.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._passes: OrderedDict[bytes, _Pass] = OrderedDict()

    def mint(self, fingerprint: str) -> str:
        """A new pass, which dies with the password of that fingerprint."""
        token = secrets.token_urlsafe(32)
        expires = self._clock() + LIFETIME
        self._passes[_digest(token)] = _Pass(expires=expires, fingerprint=fingerprint)
        while len(self._passes) > OUTSTANDING:
            self._passes.popitem(last=False)
        return token

    def holds(self, token: str, fingerprint: str | None) -> bool:
        """Whether `token` is a pass under the password of that fingerprint."""
        found = self._passes.get(_digest(token))
        return (
            found is not None and found.fingerprint == fingerprint and found.expires > self._clock()
        )
