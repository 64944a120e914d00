"""What holds for every test."""

from __future__ import annotations

import signal

from tests.triggers import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]

# A shell without job control starts what runs in the background with SIGINT ignored, and every
# child would inherit that: a test that sends Ctrl-C needs programs that take it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
