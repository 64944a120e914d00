"""Python indexes, from uv's settings to variables."""

from __future__ import annotations

import tomllib

import pytest

from jupbox.indexes import Index, as_variables, of_settings, of_variables, with_credentials

A, B = "https://a.example/simple", "https://b.example/simple"
SECRET = "hunter2-and-more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (f'index-url = "{A}"', (Index(url=A, default=True),)),
        (f'extra-index-url = ["{A}", "{B}"]', (Index(url=A), Index(url=B))),
        (f'[[index]]\nname = "lab"\nurl = "{A}"', (Index(url=A, name="lab"),)),
        (f'[[index]]\nurl = "{A}"\ndefault = true', (Index(url=A, default=True),)),
        (f'[pip]\nindex-url = "{A}"', (Index(url=A, default=True),)),
    ],
)
def test_every_form_that_uv_knows(text: str, expected: tuple[Index, ...]) -> None:
    assert of_settings(tomllib.loads(text)) == expected


def test_one_is_the_default_and_the_newer_form_wins() -> None:
    text = f'index-url = "{A}"\n[[index]]\nurl = "{B}"\ndefault = true'
    assert of_settings(tomllib.loads(text)) == (Index(url=B, default=True),)


@pytest.mark.parametrize(
    "text",
    [
        f'[[index]]\nname = "torch"\nurl = "{A}"\nexplicit = true',
        '[[index]]\nurl = "./wheels"',
        "[[index]]\nurl = 3",
        '[[index]]\nname = "no-url"',
        "index = 3",
        "index = [3]",
        "index-url = 3",
        "pip = 3",
        "extra-index-url = [3]",
    ],
)
def test_what_serves_no_other_package_or_is_no_address_is_left_out(text: str) -> None:
    assert of_settings(tomllib.loads(text)) == ()


def test_indexes_as_uvs_variables() -> None:
    found = (Index(url=A, name="lab", default=True), Index(url=B, name="x"), Index(url=A))
    assert as_variables(found, {}) == {"UV_DEFAULT_INDEX": f"lab={A}", "UV_INDEX": f"x={B} {A}"}


def test_what_the_environment_names_comes_first() -> None:
    found = (Index(url=A, default=True), Index(url=A, name="x"))
    environ = {"UV_INDEX": B, "UV_INDEX_URL": B}
    assert as_variables(found, environ) == {"UV_INDEX": f"{B} x={A}"}
    assert of_variables(environ) == Index(url=B, default=True)


def test_without_indexes_there_are_no_variables() -> None:
    assert as_variables((), {}) == {}
    assert of_variables({}) is None


@pytest.mark.parametrize(
    ("index", "environ", "expected"),
    [
        (Index(url=A), {"UV_INDEX__USERNAME": "u"}, A),
        (Index(url=A, name="lab"), {}, A),
        (Index(url=A, name="lab"), {"UV_INDEX_LAB_USERNAME": "u"}, "https://u@a.example/simple"),
        (
            Index(url="https://a.example:8443/s?x=1", name="my.lab-1"),
            {"UV_INDEX_MY_LAB_1_USERNAME": "u:@", "UV_INDEX_MY_LAB_1_PASSWORD": "p /"},
            "https://u%3A%40:p%20%2F@a.example:8443/s?x=1",
        ),
        (
            Index(url="https://own:pass@a.example/s", name="lab"),
            {"UV_INDEX_LAB_USERNAME": "u"},
            "https://own:pass@a.example/s",
        ),
    ],
)
def test_credentials_stand_in_the_address(
    index: Index, environ: dict[str, str], expected: str
) -> None:
    assert with_credentials(index, environ) == expected


def test_an_index_does_not_show_its_address() -> None:
    assert SECRET not in repr(Index(url=f"https://u:{SECRET}@a.example"))
