"""What holds for every test."""

from __future__ import annotations

import signal

from tests.faults.choosing import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_report_header,
)
from tests.faults.results import pytest_terminal_summary
from tests.triggers import pytest_pyfunc_call

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_pyfunc_call",
    "pytest_report_header",
    "pytest_terminal_summary",
]

# A shell without job control starts what runs in the background with SIGINT ignored, and every
# child would inherit that: a test that sends Ctrl-C needs programs that take it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
