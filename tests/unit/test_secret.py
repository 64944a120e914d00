from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, dataclass

import pytest

from jupbox.secret import REDACTED, Secret

CLEAR = "k7mw-9xqe"


@dataclass(frozen=True, kw_only=True)
class Holder:
    value: Secret


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(CLEAR)),
        str(Secret(CLEAR)),
        f"{Secret(CLEAR)}",
        f"{Secret(CLEAR):>20}",
        f"{Secret(CLEAR)!r}",
        "%s" % Secret(CLEAR),  # noqa: UP031
    ],
)
def test_is_redacted_however_it_is_formatted(shown: str) -> None:
    assert shown == REDACTED


def test_is_redacted_inside_other_values() -> None:
    assert CLEAR not in repr(Holder(value=Secret(CLEAR)))
    assert CLEAR not in str([Secret(CLEAR)])
    assert CLEAR not in str(ValueError(Secret(CLEAR)))


def test_reveals_text_and_the_text_of_bytes() -> None:
    assert Secret(CLEAR).reveal() == CLEAR
    assert Secret("grüße".encode()).reveal() == "grüße"


def test_equals_the_same_text_and_nothing_else() -> None:
    assert Secret(CLEAR) == Secret(CLEAR.encode())
    assert Secret(CLEAR) != Secret(CLEAR + "x")
    assert Secret(CLEAR) != CLEAR
    assert Secret("ß") != Secret("s")
    assert len({Secret(CLEAR), Secret(CLEAR)}) == 1


def test_is_false_when_empty() -> None:
    assert not Secret("")
    assert Secret(CLEAR)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(Secret(CLEAR), protocol)


def test_does_not_become_json() -> None:
    with pytest.raises(TypeError):
        json.dumps({"password": Secret(CLEAR)})


def test_survives_copies_as_a_secret() -> None:
    secret = Secret(CLEAR)
    assert asdict(Holder(value=secret))["value"] is secret
    assert copy.copy(secret) is secret


def test_cannot_be_changed() -> None:
    secret = Secret(CLEAR)
    with pytest.raises(AttributeError):
        secret._text = "other"
    with pytest.raises(AttributeError):
        del secret._text
    assert secret.reveal() == CLEAR
