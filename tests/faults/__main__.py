"""`python -m tests.faults [--full] [--faults-seed N] [--faults-table FILE] [PYTEST ARGUMENTS]`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main([str(Path(__file__).parent), "--durations=10", *sys.argv[1:]]))
