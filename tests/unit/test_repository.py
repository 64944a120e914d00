"""How a definition of another repository is named."""

from __future__ import annotations

import pytest

from jupbox.repository import GitReference, ReferenceProblem, parse_reference


@pytest.mark.parametrize(
    ("url", "revision"),
    [
        ("https://host.example.org/team/repo", "main"),
        ("https://host.example.org:8443/team/repo.git", "v1.2"),
        ("https://192.0.2.7/~ada/repo", "feature/x"),
        ("ssh://git@host/team/repo.git", "a" * 40),
        ("ssh://host:2222/repo", "HEAD"),
        ("ssh://git@[2001:db8::1]:22/repo", "main"),
        ("file:///srv/git/repo", "main"),
    ],
)
def test_a_definition_is_named_by_address_revision_and_image(url: str, revision: str) -> None:
    text = f"git+{url}@{revision}#images.datasci"
    found = parse_reference(text)
    assert found == GitReference(url=url, revision=revision, image="datasci")
    assert str(found) == text


@pytest.mark.parametrize(
    "text",
    [
        "git+https://host/repo#images.x",
        "git+https://host/repo@main",
        "git+https://host/repo@main#x",
        "git+https://host/repo@main#boxes.x",
        "git+https://host/repo@main#images.X y",
        "git+http://host/repo@main#images.x",
        "git+ext://sh -c id@main#images.x",
        "git+file://host/repo@main#images.x",
        "git+https://host@main#images.x",
        "git+https://host/a b@main#images.x",
        "git+https://host/repo?token=1@main#images.x",
        "git+https://host/../repo@main#images.x",
        "git+ssh://-oProxyCommand=id/repo@main#images.x",
        "git+https://host/repo@main#images.x\n",
    ],
)
def test_anything_else_names_none(text: str) -> None:
    with pytest.raises(ReferenceProblem):
        parse_reference(text)


@pytest.mark.parametrize(
    "revision",
    ["-u", "--upload-pack=id", "a..b", "a:b", "+a", "a^", "a~1", "@{u}", "a b", "", "x/"],
)
def test_a_revision_is_no_option_and_no_refspec(revision: str) -> None:
    with pytest.raises(ReferenceProblem, match=r"^$|no revision"):
        parse_reference(f"git+https://host/repo@{revision}#images.x")


@pytest.mark.parametrize(
    "place", ["https://ada:k7mw@host", "https://k7mw@host", "ssh://a:k7mw@host"]
)
def test_credentials_are_refused_without_being_shown(place: str) -> None:
    with pytest.raises(ReferenceProblem, match="credential helper") as caught:
        parse_reference(f"git+{place}/repo@main#images.x")
    assert "k7mw" not in str(caught.value)
