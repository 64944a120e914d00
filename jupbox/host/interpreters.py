"""CPython for images whose base has another: uv's own downloads, locked by hash.

Which there are, where they lie (a mirror of the user's own, too) and whether what came is what uv
knows of it is all asked of uv on this machine; a build fetches the same archive by the lock's hash.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from jupbox.errors import ResolveError
from jupbox.host.files import write_atomic
from jupbox.host.resolve import MACHINES, find_uv, with_bundle
from jupbox.lock import Architecture, InterpreterLock
from jupbox.secret import without_credentials

OLDEST: Final = Version("3.11")
"""The first one that the notebook server runs with."""

_LIST_SECONDS: Final = 60
_DOWNLOAD_SECONDS: Final = 900


@dataclass(frozen=True, kw_only=True)
class Uv:
    """uv as it runs here.

    Attributes:
        environ: the user's environment.
        ca_bundle: certificates that uv trusts where `environ` names none of its own.
        cwd: the project's folder, whose uv configuration holds; None is the current one.
    """

    environ: Mapping[str, str]
    ca_bundle: Path | None
    cwd: Path | None

    def __call__(
        self, *arguments: str, timeout: float, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        given = {**with_bundle(self.environ, self.ca_bundle), **environ}
        try:
            return subprocess.run(
                [str(find_uv()), "python", *arguments], env=given, cwd=self.cwd, check=False,
                capture_output=True, encoding="utf-8", errors="replace", timeout=timeout,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ResolveError(
                f"`uv python {arguments[0]}` did not end within {timeout:.0f} s.",
                remedy="Check the network and uv's `python-install-mirror`, then try again.",
            ) from None


def resolve_interpreter(
    requires_python: str, uv: Uv, *, architecture: Architecture, version: str | None = None
) -> InterpreterLock | None:
    """The newest patch of the oldest CPython that a definition takes; it is fetched once.

    Args:
        requires_python: the range.
        uv: knows them.
        architecture: of the image.
        version: exactly this one: what another architecture has.

    Returns:
        None where uv knows none that fits and that the notebook server runs with.

    Raises:
        ResolveError: it cannot be fetched, or is not what uv knows of it.
    """
    wanted = SpecifierSet(f"=={version}" if version else requires_python)
    known = {Version(one["version"]): one for one in _known(uv, architecture)}
    fitting = [one for one in known if one >= OLDEST and one in wanted and not one.is_prerelease]
    if not fitting:
        return None
    minor = min(one.release[:2] for one in fitting)
    chosen = known[max(one for one in fitting if one.release[:2] == minor)]
    return InterpreterLock(
        version=chosen["version"], file=_file(chosen["url"]), sha256=_fetched(chosen["key"], uv)
    )


@contextmanager
def build_secret(
    lock: InterpreterLock | None, uv: Uv, *, architecture: Architecture
) -> Iterator[dict[str, Path]]:
    """Where a build finds the locked CPython, as uv reads it; nothing without one.

    A secret, since the address of a mirror may hold credentials. The hash in it is the lock's.

    Raises:
        ResolveError: uv on this machine knows no place of them.
    """
    if lock is None:
        yield {}
        return
    known = _known(uv, architecture)
    if not known:
        raise ResolveError(
            f"uv on this machine knows no CPython for {architecture}.",
            remedy="Look at uv's settings: python-downloads and python-downloads-json-url.",
        )
    # an older uv does not know each file, but all lie in one place
    place = known[0]["url"].rsplit("/", 2)[0]
    same = (one["url"] for one in known if _file(one["url"]) == lock.file)
    url = next(same, f"{place}/{lock.file.replace('+', '%2B')}")
    version = Version(lock.version)
    entry = {
        "name": "cpython", "arch": {"family": MACHINES[architecture], "variant": None},
        "os": "linux", "libc": "gnu", "major": version.major, "minor": version.minor,
        "patch": version.micro, "prerelease": "", "url": url, "sha256": lock.sha256,
        "variant": None,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="jupbox-python-") as folder:
        path = Path(folder) / "interpreter"
        text = json.dumps({lock.key(architecture): entry})
        write_atomic(path, text.encode(), mode=0o600)
        yield {"interpreter": path}


def _known(uv: Uv, architecture: Architecture) -> Sequence[Mapping[str, Any]]:
    done = uv(
        "list", "--all-versions", "--all-platforms", "--all-arches", "--only-downloads",
        "--output-format", "json", timeout=_LIST_SECONDS,
    )  # fmt: skip
    if done.returncode != 0:
        raise _failed("uv cannot say which CPython there is", done.stderr)
    wanted = {
        "implementation": "cpython", "os": "linux", "libc": "gnu", "variant": "default",
        "arch": MACHINES[architecture],
    }  # fmt: skip
    return [one for one in json.loads(done.stdout) if wanted.items() <= one.items()]


def _file(url: str) -> str:
    """The archive's name, with the release that it is of."""
    return unquote("/".join(url.rsplit("/", 2)[1:]))


def _fetched(key: str, uv: Uv) -> str:
    """The hash of an archive that uv has fetched and compared with what it knows itself."""
    with tempfile.TemporaryDirectory(prefix="jupbox-python-") as folder:
        archives = Path(folder) / "archives"
        done = uv(
            "install", "--quiet", "--no-bin", "--install-dir", f"{folder}/unpacked", key,
            timeout=_DOWNLOAD_SECONDS, UV_PYTHON_CACHE_DIR=str(archives),
        )  # fmt: skip
        if done.returncode != 0:
            raise _failed(f"{key} cannot be fetched", done.stderr)
        (archive,) = archives.iterdir()
        with archive.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _failed(what: str, stderr: str) -> ResolveError:
    lines = [" ".join(line.split()) for line in stderr.splitlines() if line.strip()]
    why = without_credentials(lines[-1].removeprefix("error: ")) if lines else "no reason given"
    return ResolveError(
        f"{what}: {why[:300]}",
        remedy="Check the network and uv's `python-install-mirror`, or name a `base` that has "
        "the Python that you require.",
    )
