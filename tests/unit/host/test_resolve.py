"""What uv is told of certificates; the rest of resolving is tested with a real uv."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupbox.host import resolve as room


@pytest.mark.parametrize(
    ("named", "bundle", "expected"),
    [
        (None, None, None),
        (None, Path("/ours.crt"), "/ours.crt"),
        ("", Path("/ours.crt"), "/ours.crt"),
        ("/theirs.crt", Path("/ours.crt"), "/theirs.crt"),
        ("~/theirs.crt", None, "/home/alice/theirs.crt"),
    ],
)
def test_uv_gets_a_bundle_with_its_whole_path(
    monkeypatch: pytest.MonkeyPatch, named: str | None, bundle: Path | None, expected: str | None
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    environ = {} if named is None else {"SSL_CERT_FILE": named}
    assert room.with_bundle(environ, bundle).get("SSL_CERT_FILE") == expected
