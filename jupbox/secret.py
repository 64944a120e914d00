"""A value that must not be shown: a password, its hash, a private key."""

from __future__ import annotations

import hmac
import re
from typing import Final, NoReturn, final

REDACTED: Final = "<secret>"
_USERINFO: Final = re.compile(r"(?<=://)[^/\s]+@")


@final
class Secret:
    """Text that is shown as `<secret>` wherever it is printed, logged or formatted.

    It compares in constant time, can be copied (a copy is the same object), and cannot be
    pickled or turned into JSON, so it reaches a file only where `reveal` is written.

    Args:
        value: the text, or its UTF-8 bytes.
    """

    __slots__ = ("_text",)
    _text: str

    def __init__(self, value: str | bytes) -> None:
        text = value.decode() if isinstance(value, bytes) else value
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return REDACTED

    def __format__(self, spec: str) -> str:
        # A width or precision could show how long the text is, so no specification applies.
        return REDACTED

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # surrogatepass: comparing must not fail where the text cannot be encoded.
        return hmac.compare_digest(
            self._text.encode(errors="surrogatepass"), other._text.encode(errors="surrogatepass")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        # dataclasses.asdict copies deeply.
        return self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Secret cannot be changed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


def without_credentials(text: str) -> str:
    """A program's words without the user and password of any URL in them."""
    return _USERINFO.sub("", text)
