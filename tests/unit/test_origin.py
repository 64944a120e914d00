"""Folders, git addresses and boxes apart from each other."""

from __future__ import annotations

import pytest

from jupbox.errors import ConfigError
from jupbox.origin import folder_name, is_address, is_repository, parse_address


@pytest.mark.parametrize(
    ("word", "url", "revision", "name"),
    [
        ("https://host/team/repo", "https://host/team/repo", None, "repo"),
        ("https://host/team/repo.git@v1.2", "https://host/team/repo.git", "v1.2", "repo"),
        ("git+https://host/repo/@feature/x", "https://host/repo/", "feature/x", "repo"),
        ("https://host:8443/repo", "https://host:8443/repo", None, "repo"),
        ("git@host:team/repo.git", "git@host:team/repo.git", None, "repo"),
        ("git@host:repo@0a1b2c", "git@host:repo", "0a1b2c", "repo"),
        ("ssh://git@host:22/team/repo", "ssh://git@host:22/team/repo", None, "repo"),
        ("git+ssh://git@host/repo@main", "ssh://git@host/repo", "main", "repo"),
        ("file:///srv/repo.git", "file:///srv/repo.git", None, "repo"),
    ],
)
def test_an_address_has_a_url_a_revision_and_a_name(
    word: str, url: str, revision: str | None, name: str
) -> None:
    found = parse_address(word)
    assert (found.url, found.revision, found.name) == (url, revision, name)


@pytest.mark.parametrize(
    "word",
    ["https://ada:key@host/repo", "https://token@host/repo", "ssh://git:key@host/repo"],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(word)
    said = f"{caught.value.message} {caught.value.remedy}"
    assert "credential" in said
    assert not [secret for secret in ("key", "token") if secret in said]


@pytest.mark.parametrize(
    "word",
    ["https://host/repo@--upload-pack=x", "https://host/repo@a..b", "https://host/repo@a@b",
     "https://host/re po", "git+--upload-pack=x", "git+/srv/repo", "https://host/repo@-x",
     "https://host/repo\n@x"],
)  # fmt: skip
def test_what_git_could_take_for_something_else_is_refused(word: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(word)


@pytest.mark.parametrize(
    "word", ["workbox", "ada@workbox", "ada@workbox/gpu", "ssh://ada@workbox:2222", "10.0.0.1",
             "workbox:2222", "workbox/gpu"],
)  # fmt: skip
def test_a_box_is_no_repository(word: str) -> None:
    assert not is_address(word)
    assert not is_repository(word, is_folder=False)


@pytest.mark.parametrize("word", [".", "..", "./workbox", "../x", "/srv/x", "~/x", "https://h/x"])
def test_a_path_or_an_address_is_a_repository_whether_it_is_there_or_not(word: str) -> None:
    assert is_repository(word, is_folder=False)


def test_a_folder_that_is_there_is_a_repository() -> None:
    assert is_repository("notes", is_folder=True)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("My.Repo-1", "My.Repo-1"), ("", "image"), (".hidden", "image"), ("a b", "image"),
     ("..", "image"), ("-x", "image")],
)  # fmt: skip
def test_a_name_that_would_be_trouble_as_a_folder_is_not_taken(name: str, folder: str) -> None:
    assert folder_name(name, otherwise="image") == folder
