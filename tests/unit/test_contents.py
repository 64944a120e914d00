"""The list of an image's content: read, and compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jupbox.contents import Difference, Entry, differences, parse_contents

HASH = "a" * 64
# as images/build/digest.sh writes it
LISTED = (
    b"ENTRY 1767225600 d 755 0 0 ./etc\0"
    b"ENTRY 1767225600 f 644 0 42 ./etc/my file\nof two lines\0"
    b"ENTRY 1767225600 l 777 1000 1000 ./etc/link\0"
    b"ENTRY -1 c 620 0 5 ./console\0"
    b"ENTRY 0 f 600 0 0 ./r\xe9sum\xe9\0"
    b"LINK ./etc/link -> target\0" + f"FILE {HASH}  ./etc/my file\nof two lines\0".encode()
)


def entry(**changes: Any) -> Entry:
    given: dict[str, Any] = {
        "kind": "file", "mode": "644", "owner": "0:0", "time": 1_767_225_600, "sha256": HASH
    }  # fmt: skip
    return Entry(**(given | changes))


def test_every_record_of_the_list_is_read() -> None:
    found = parse_contents(LISTED)
    assert found == {
        "/etc": entry(kind="folder", mode="755", sha256=""),
        "/etc/my file\nof two lines": entry(owner="0:42"),
        "/etc/link": entry(kind="link", mode="777", owner="1000:1000", target="target", sha256=""),
        "/console": entry(kind="device", mode="620", owner="0:5", time=-1, sha256=""),
        "/r\udce9sum\udce9": entry(mode="600", time=0, sha256=""),
    }


def test_an_empty_list_is_of_nothing() -> None:
    assert parse_contents(b"") == {}


def test_what_is_no_such_list_is_refused() -> None:
    with pytest.raises(ValueError, match="no list"):
        parse_contents(b"OTHER x\0")


def test_the_same_content_has_no_differences() -> None:
    assert differences({"/a": entry()}, {"/a": entry()}) == ()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"mode": "600"}, "mode 644, 600"),
        ({"owner": "1:1"}, "owner 0:0, 1:1"),
        ({"time": 1_767_225_601}, "time 2026-01-01 00:00:00, 2026-01-01 00:00:01"),
        ({"sha256": "b" * 64}, "content"),
        ({"kind": "link", "target": "/x", "sha256": HASH}, "a file, a link, leads to , /x"),
        ({"mode": "600", "sha256": "b" * 64}, "mode 644, 600, content"),
    ],
)
def test_a_difference_says_in_what(changes: dict[str, Any], what: str) -> None:
    found = differences({"/a": entry()}, {"/a": replace(entry(), **changes)})
    assert found == (Difference(path="/a", what=what),)


def test_paths_of_one_side_alone_are_differences_too_and_all_are_sorted() -> None:
    found = differences({"/z": entry(), "/b": entry()}, {"/a": entry(), "/b": entry(mode="0")})
    assert [(one.path, one.what) for one in found] == [
        ("/a", "only in the second"),
        ("/b", "mode 644, 0"),
        ("/z", "only in the first"),
    ]
