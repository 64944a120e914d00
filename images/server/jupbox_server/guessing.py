"""A limit on guessed passwords; Jupyter has none."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: Wrong passwords that one address may send before it has to wait.
FREE_TRIES = 5
#: The longest wait between two tries of one address, in seconds.
LONGEST_WAIT = 60.0
#: After so many seconds without a try an address is forgotten.
FORGET_AFTER = 900.0
#: Addresses kept; the one silent for longest goes first.
ADDRESSES = 1024
#: Tries of all addresses together: so many at once, and so many a second after that. It bounds
#: whoever has many addresses. The owner who is kept waiting by them has the control login.
ALL_AT_ONCE, ALL_PER_SECOND = 40.0, 0.5


@dataclass(frozen=True, kw_only=True)
class _Tries:
    count: int
    last: float


class GuessLimit:
    """Counts tries as they are let in, so that many at once are no way around it.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._tokens = ALL_AT_ONCE
        self._filled = clock()

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._tries)

    @staticmethod
    def _key(address: str) -> str:
        """The address, or an IPv6 one's /64: whoever has one of those has all of it."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return address
        if parsed.version == 4:
            return address
        return str(ipaddress.ip_network((parsed, 64), strict=False))

    def _refill(self, now: float) -> None:
        self._tokens = min(ALL_AT_ONCE, self._tokens + (now - self._filled) * ALL_PER_SECOND)
        self._filled = now

    def _wait_of(self, key: str, now: float) -> float:
        tries = self._tries.get(key)
        if tries is None or tries.count < FREE_TRIES:
            return 0.0
        pause = min(2.0 ** (tries.count - FREE_TRIES), LONGEST_WAIT)
        return max(0.0, tries.last + pause - now)

    def admit(self, address: str) -> float:
        """Let a try in and count it: 0, or the seconds that `address` must wait first."""
        now, key = self._clock(), self._key(address)
        self._refill(now)
        if key in self._tries and now - self._tries[key].last > FORGET_AFTER:
            del self._tries[key]
        wait = self._wait_of(key, now)
        if not wait and self._tokens < 1:
            wait = (1 - self._tokens) / ALL_PER_SECOND
        if wait:
            return wait
        count = min(self._tries[key].count + 1, 64) if key in self._tries else 1
        self._tries[key] = _Tries(count=count, last=now)
        self._tries.move_to_end(key)
        while len(self._tries) > ADDRESSES:
            self._tries.popitem(last=False)
        self._tokens -= 1
        return 0.0

    def succeeded(self, address: str) -> None:
        """The password was right: forget the tries of `address`."""
        self._tries.pop(self._key(address), None)
        self._tokens = min(ALL_AT_ONCE, self._tokens + 1)
