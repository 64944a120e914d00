"""What the stages share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.release.bench import Own


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(folder=tmp_path)
