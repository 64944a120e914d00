"""How a base is named."""

from __future__ import annotations

import pytest

from jupbox.host import base as room
from jupbox.lock import BaseLock

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("debian:trixie-slim", "debian"),
        ("debian", "debian"),
        ("docker.io/library/debian:trixie", "docker.io/library/debian"),
        ("registry.example:5000/team/base:1", "registry.example:5000/team/base"),
        ("registry.example:5000/base", "registry.example:5000/base"),
        (f"debian@{DIGEST}", "debian"),
        (f"registry.example:5000/base:1@{DIGEST}", "registry.example:5000/base"),
    ],
)
def test_a_locked_base_is_its_repository_at_its_digest(reference: str, repository: str) -> None:
    lock = BaseLock(reference=reference, kind="registry", digest=DIGEST)
    assert room._pinned(lock) == f"{repository}@{DIGEST}"
