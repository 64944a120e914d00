"""Memory and processor time of this container, from the kernel's cgroup files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")

# v1 says "no limit" by the largest multiple of the page size, which differs between machines.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the container uses; None where the kernel does not say.

    Args:
        memory_bytes: memory in use without page cache that can go, as `docker stats` counts it.
        memory_limit_bytes: the limit, None for none.
        cpu_usec: processor time since the container started, in microseconds.
        oom_kills: processes that were ended since then because the memory was used up.
    """

    memory_bytes: int | None
    memory_limit_bytes: int | None
    cpu_usec: int | None
    oom_kills: int | None = None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # v2 writes "max" for no limit
        return None


def _field(path: Path, name: str) -> int | None:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[:1] == [name]), None)
    except (OSError, ValueError, IndexError):
        return None


def usage(root: Path = ROOT) -> Usage:
    """Read cgroup v2's files, or v1's where the memory controller is mounted on its own."""
    v1 = root / "memory"
    if (v1 / "memory.usage_in_bytes").exists():
        used, cache = _number(v1 / "memory.usage_in_bytes"), "total_inactive_file"
        idle, limit = _field(v1 / "memory.stat", cache), _number(v1 / "memory.limit_in_bytes")
        nanoseconds = _number(root / "cpuacct" / "cpuacct.usage")
        cpu = None if nanoseconds is None else nanoseconds // 1000
        kills = _field(v1 / "memory.oom_control", "oom_kill")
    else:
        used, limit = _number(root / "memory.current"), _number(root / "memory.max")
        idle = _field(root / "memory.stat", "inactive_file")
        cpu = _field(root / "cpu.stat", "usage_usec")
        kills = _field(root / "memory.events", "oom_kill")
    return Usage(
        memory_bytes=None if used is None else max(0, used - (idle or 0)),
        memory_limit_bytes=limit if limit is not None and limit < _NO_LIMIT else None,
        cpu_usec=cpu,
        oom_kills=kills,
    )


def memory_of_machine(proc: Path = Path("/proc")) -> int:
    """All memory there is, in bytes.

    Raises:
        OSError, ValueError: the kernel does not say.
    """
    kilobytes = _field(proc / "meminfo", "MemTotal:")
    if kilobytes is None:
        raise ValueError("no MemTotal")
    return kilobytes * 1024
