"""What `doctor` makes of what it saw: pure functions from observations to findings.

A finding that is worse than fine says what to do. Nothing here looks: `host/diagnose.py` and
`workflows/doctor.py` do, and what could not be looked at is None.
"""

from __future__ import annotations

from jupbox.doctor.box import (
    Boot,
    Connection,
    EngineSeen,
    Folder,
    Host,
    Wish,
    of_connection,
    of_host,
)
from jupbox.doctor.finding import (
    BOX,
    LAPTOP,
    SERVER,
    Finding,
    Severity,
    exit_code,
    of_error,
    summary,
    worst,
)
from jupbox.doctor.laptop import Laptop, Program, of_laptop
from jupbox.doctor.resources import Reach, Space
from jupbox.doctor.server import (
    Certificate,
    Locked,
    Server,
    SidePackage,
    Summary,
    near_limit,
    of_no_server,
    of_server,
    read_summary,
)

__all__ = [
    "BOX",
    "LAPTOP",
    "SERVER",
    "Boot",
    "Certificate",
    "Connection",
    "EngineSeen",
    "Finding",
    "Folder",
    "Host",
    "Laptop",
    "Locked",
    "Program",
    "Reach",
    "Server",
    "Severity",
    "SidePackage",
    "Space",
    "Summary",
    "Wish",
    "exit_code",
    "near_limit",
    "of_connection",
    "of_error",
    "of_host",
    "of_laptop",
    "of_no_server",
    "of_server",
    "read_summary",
    "summary",
    "worst",
]  # fmt: skip
