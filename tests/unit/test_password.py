from __future__ import annotations

import math
import re

import pytest
from jupyter_server.auth.security import passwd, passwd_check

from jupbox.errors import PasswordError
from jupbox.password import (
    MIN_LENGTH,
    check_password,
    generate_password,
    hash_password,
)
from jupbox.secret import Secret


@pytest.mark.parametrize(
    "text", ["a" * MIN_LENGTH, "pässwörter", "correct horse battery", "日本語日本語日本"]
)
def test_accepts_what_a_login_form_can_send(text: str) -> None:
    check_password(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("          ", "empty"),
        ("1234567", "shorter than 8"),
        ("twolines\nhere", "cannot be typed"),
        ("nul\0nul\0nul", "cannot be typed"),
        ("not\udcff utf-8", "cannot be typed"),
    ],
)
def test_refuses_what_cannot_serve_and_does_not_repeat_it(text: str, message: str) -> None:
    with pytest.raises(PasswordError, match=message) as raised:
        check_password(text)
    assert not text.strip() or text not in raised.value.message + raised.value.remedy


def test_refuses_to_hash_a_short_password() -> None:
    with pytest.raises(PasswordError):
        hash_password(Secret("short"))


def test_jupyter_accepts_our_hash() -> None:
    hashed = hash_password(Secret("pässwörter")).reveal()
    assert passwd_check(hashed, "pässwörter")  # type: ignore[no-untyped-call]
    assert not passwd_check(hashed, "pässworter")  # type: ignore[no-untyped-call]


def test_our_hash_has_the_parameters_of_jupyters() -> None:
    def parameters(hashed: str) -> list[str]:
        return hashed.split("$")[:4]

    ours = hash_password(Secret("long enough")).reveal()
    theirs: str = passwd("long enough")  # type: ignore[no-untyped-call]
    assert parameters(ours) == parameters(theirs)
    assert ours.startswith("argon2:$argon2id$")


def test_the_same_password_hashes_differently_each_time() -> None:
    assert hash_password(Secret("long enough")) != hash_password(Secret("long enough"))


def test_generated_passwords_are_readable_strong_and_never_the_same() -> None:
    made = [generate_password().reveal() for _ in range(500)]
    for text in made:
        check_password(text)
        assert re.fullmatch(r"[a-z2-9]{4}(-[a-z2-9]{4}){3}", text)
    seen = set("".join(made)) - {"-"}
    assert seen.isdisjoint("01ilo")
    assert 16 * math.log2(len(seen)) >= 77
    assert len(set(made)) == len(made)
