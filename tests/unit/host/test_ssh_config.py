"""The names that may be offered as hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupbox.host.ssh_config import host_names


def configured(home: Path, text: str, **others: str) -> Path:
    folder = home / ".ssh"
    folder.mkdir()
    (folder / "config").write_text(text)
    for name, content in others.items():
        (folder / name).write_text(content)
    return home


def test_no_configuration_names_none(tmp_path: Path) -> None:
    assert host_names(tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Host workbox\n  HostName 192.0.2.7\n", ("workbox",)),
        ("host a b\nHOST c\n", ("a", "b", "c")),
        ("Host=a\nHost = b\n\tHost\tc\n", ("a", "b", "c")),
        ('Host "a" b # not c\n', ("a", "b")),
        ("Host *\nHost *.example.org box? !no yes\n", ("yes",)),
        ("# Host a\nMatch host b\nHostName c\nHostKeyAlias d\n", ()),
        ("Host a\nHost b a\n", ("a", "b")),
    ],
)
def test_names_are_those_of_host_lines_without_patterns(
    tmp_path: Path, text: str, names: tuple[str, ...]
) -> None:
    assert host_names(configured(tmp_path, text)) == names


def test_included_files_are_followed_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("Host four\n")
    home = configured(
        tmp_path,
        f"Host one\nInclude more-* ~/.ssh/third\nInclude {tmp_path}/elsewhere nowhere\nHost last\n",
        **{"more-a": "Host two-a\n", "more-b": "Host two-b\n", "third": "Host three\n"},
    )
    assert host_names(home) == ("one", "two-a", "two-b", "three", "four", "last")


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    assert host_names(configured(tmp_path, "Host a\nInclude config\n")) == ("a",)


def test_what_cannot_be_read_counts_as_empty(tmp_path: Path) -> None:
    home = configured(tmp_path, "Host a\nInclude folder broken\n", broken="")
    (home / ".ssh" / "folder").mkdir()
    (home / ".ssh" / "broken").write_bytes(b"Host b\n\xff\xfe\n")
    assert host_names(home) == ("a", "b")
