"""What a box knows of its last good backup: a small file beside its lock."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from jupbox.host.machine import Machine

_FOLDER: Final = "folder=${XDG_STATE_HOME:-$HOME/.local/state}/jupbox\n"
_READ: Final = f'{_FOLDER}cat "$folder/$1.backup" 2>/dev/null || true'
_WRITE: Final = f"""{_FOLDER}
mkdir -p -m 700 "$folder" || exit 1
new="$folder/.$1.backup.$$"
cat > "$new" && mv -f "$new" "$folder/$1.backup" || {{ rm -f "$new"; exit 1; }}
"""
_FORGET: Final = f"""{_FOLDER}
rm -f "$folder/$1.backup"
rmdir "$folder" 2>/dev/null || true
"""


@dataclass(frozen=True, kw_only=True)
class LastBackup:
    """The last good one.

    Attributes:
        made: when, with a time zone.
        who: made it, and on which machine.
        bytes: of its files.
    """

    made: datetime
    who: str
    bytes: int


def last_backup(machine: Machine, stack: str) -> LastBackup | None:
    """The last good backup of a stack; None where there was none."""
    text = machine.run(["sh", "-c", _READ, "sh", stack], check=False).text
    try:
        values = json.loads(text)
        made = datetime.fromisoformat(values["made"])
        return LastBackup(made=made, who=str(values["who"]), bytes=int(values["bytes"]))
    except (ValueError, KeyError, TypeError):
        return None


def remember(machine: Machine, stack: str, last: LastBackup) -> None:
    """Keep on the box that there is a good backup.

    Raises:
        HostError: that could not be written.
    """
    values = {**asdict(last), "made": last.made.isoformat(timespec="seconds")}
    machine.run(["sh", "-c", _WRITE, "sh", stack], input=json.dumps(values).encode() + b"\n")


def forget(machine: Machine, stack: str) -> None:
    """Remove what is kept of a stack's backups."""
    machine.run(["sh", "-c", _FORGET, "sh", stack])
