"""Passwords of a notebook server: rules, hash and generation."""

from __future__ import annotations

import secrets
import unicodedata
from typing import Final

import argon2

from jupbox.errors import PasswordError
from jupbox.secret import Secret

MIN_LENGTH: Final = 8
"""Fewest characters of a password."""

_PREFIX: Final = "argon2:"

# What jupyter_server.auth.security.passwd() uses (memory in KiB). Its check reads the parameters
# from the hash, so they could be changed; equal ones cost a login the same as everywhere else.
_HASHER: Final = argon2.PasswordHasher(time_cost=10, memory_cost=10240, parallelism=8)

# Without i, l, o, 0 and 1, which are mistaken for each other when read aloud or off a screen.
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS: Final = 4
_GROUP_LENGTH: Final = 4  # 16 characters of 31 are 79 bits: out of reach with the hash in hand


def check_password(text: str) -> None:
    """Check that a text can serve as password.

    Args:
        text: the password in clear.

    Raises:
        PasswordError: it is empty or blank, shorter than `MIN_LENGTH` characters, or cannot be
            typed into a login form.
    """
    remedy = f"Choose one of at least {MIN_LENGTH} characters, or use --generate."
    if not text.strip():
        raise PasswordError("The password is empty.", remedy=remedy)
    if len(text) < MIN_LENGTH:
        raise PasswordError(
            f"The password is shorter than {MIN_LENGTH} characters.",
            remedy=remedy,
        )
    # A browser's password field drops line breaks, and lone surrogates (input that was no UTF-8)
    # have no bytes to hash: such a password could be set and then never entered.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise PasswordError(
            "The password holds characters that cannot be typed into a login form.",
            remedy="Choose one of letters, digits, punctuation and spaces on a single line.",
        )


def hash_password(password: Secret) -> Secret:
    """Hash a password in Jupyter's own format, `argon2:$argon2id$…`.

    Args:
        password: the password in clear.

    Returns:
        The hash, salted anew at each call; it is a secret too, since it can be guessed against.

    Raises:
        PasswordError: as `check_password`.
    """
    check_password(password.reveal())
    return Secret(_PREFIX + _HASHER.hash(password.reveal()))


def generate_password() -> Secret:
    """Make a password of four groups of four characters, such as `k7mw-9xqe-hr3d-t2vp`.

    Returns:
        79 bits of the system's randomness, in characters that are not mistaken for each other.
    """
    groups = (
        "".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS)
    )
    return Secret("-".join(groups))
