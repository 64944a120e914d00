"""CPython of uv's own downloads: which one is chosen, and how a build finds it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jupbox.errors import ResolveError
from jupbox.host.interpreters import Uv, build_secret, resolve_interpreter
from jupbox.lock import InterpreterLock

# uv reads and rewrites it, and takes nothing without it
_BUILD_VARIABLES = """\
# system configuration generated and used by the sysconfig module
build_time_vars = {
 "CC": "cc"
}
"""

pytestmark = pytest.mark.real_process


@dataclass
class Mirror:
    """A mirror of CPython in a folder, with a list of what is there."""

    folder: Path
    entries: dict[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def uv(self) -> Uv:
        index = self.folder / "downloads.json"
        index.write_text(json.dumps(self.entries))
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "UV_PYTHON_DOWNLOADS_JSON_URL": str(index),
            "UV_CACHE_DIR": str(self.folder / "cache"),
        }
        return Uv(environ=environ, ca_bundle=None, cwd=self.folder)

    def add(self, version: str, *, machine: str = "x86_64", prerelease: str = "") -> str:
        """Put a CPython into it; its archive's hash."""
        major, minor, patch = version.split(".")
        release = self.folder / "20260101"
        release.mkdir(exist_ok=True)
        name = f"cpython-{version}{prerelease}+20260101-{machine}-install_only_stripped.tar.gz"
        content = _archive(version)
        (release / name).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        url = f"file://{release}/{name.replace('+', '%2B')}"
        self.entries[f"cpython-{version}{prerelease}-linux-{machine}-gnu"] = {
            "name": "cpython", "arch": {"family": machine, "variant": None}, "os": "linux",
            "libc": "gnu", "major": int(major), "minor": int(minor), "patch": int(patch),
            "prerelease": prerelease, "url": url, "sha256": sha256, "variant": None,
        }  # fmt: skip
        return sha256


def _archive(version: str) -> bytes:
    """As little of a CPython as uv takes for one."""
    minor = version.rpartition(".")[0]
    program = f"#!/bin/sh\necho Python {version}\n"
    files = {
        "bin/python3": program,
        f"bin/python{minor}": program,
        f"lib/python{minor}/_sysconfigdata__linux_.py": _BUILD_VARIABLES,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"python/{name}")
            member.mode, member.size = 0o755, len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(folder=tmp_path)


def test_it_is_the_newest_patch_of_the_oldest_that_fits(mirror: Mirror) -> None:
    hashes = {v: mirror.add(v) for v in ("3.10.9", "3.12.1", "3.12.10", "3.12.9", "3.14.0")}
    mirror.add("3.12.11", machine="aarch64")
    mirror.add("3.15.0", prerelease="a1")
    found = {
        wanted: resolve_interpreter(wanted, mirror.uv, architecture="amd64")
        for wanted in (">=3.8", "==3.12.*", "<3.12.10,>=3.12", ">=3.13")
    }
    versions = {wanted: lock and lock.version for wanted, lock in found.items()}
    assert versions == {
        ">=3.8": "3.12.10", "==3.12.*": "3.12.10", "<3.12.10,>=3.12": "3.12.9", ">=3.13": "3.14.0",
    }  # fmt: skip
    assert found["==3.12.*"] == InterpreterLock(
        version="3.12.10",
        file="20260101/cpython-3.12.10+20260101-x86_64-install_only_stripped.tar.gz",
        sha256=hashes["3.12.10"],
    )


@pytest.mark.parametrize("wanted", ["==3.13.*", "==3.10.*", ">=3.15"])
def test_what_is_not_there_too_old_or_not_released_is_none(mirror: Mirror, wanted: str) -> None:
    mirror.add("3.10.9")
    mirror.add("3.15.0", prerelease="a1")
    assert resolve_interpreter(wanted, mirror.uv, architecture="amd64") is None


def test_another_architecture_has_the_same_version(mirror: Mirror) -> None:
    for version in ("3.12.1", "3.12.2"):
        mirror.add(version, machine="aarch64")
    found = resolve_interpreter("==3.12.*", mirror.uv, architecture="arm64", version="3.12.1")
    assert found is not None
    assert (found.version, "aarch64" in found.file) == ("3.12.1", True)


def test_an_archive_that_is_not_what_uv_knows_is_refused(mirror: Mirror) -> None:
    mirror.add("3.12.1")
    (archive,) = (mirror.folder / "20260101").iterdir()
    archive.write_bytes(_archive("3.12.2"))
    with pytest.raises(ResolveError, match=r"cpython-3\.12\.1-linux-x86_64-gnu cannot be fetched"):
        resolve_interpreter("==3.12.*", mirror.uv, architecture="amd64")


def test_a_mirror_out_of_reach_leads_to_uvs_setting(mirror: Mirror) -> None:
    mirror.add("3.12.1")
    (archive,) = (mirror.folder / "20260101").iterdir()
    archive.unlink()
    with pytest.raises(ResolveError) as caught:
        resolve_interpreter("==3.12.*", mirror.uv, architecture="amd64")
    assert "python-install-mirror" in caught.value.remedy


def test_a_build_is_told_one_archive_by_the_locks_hash(mirror: Mirror) -> None:
    mirror.add("3.12.1")
    lock = resolve_interpreter("==3.12.*", mirror.uv, architecture="amd64")
    assert lock is not None
    locked = InterpreterLock(version="3.12.1", file=lock.file, sha256="a" * 64)
    with build_secret(locked, mirror.uv, architecture="amd64") as files:
        told = json.loads(files["interpreter"].read_text())
        assert files["interpreter"].stat().st_mode & 0o777 == 0o600
    entry = mirror.entries["cpython-3.12.1-linux-x86_64-gnu"]
    assert told == {locked.key("amd64"): {**entry, "sha256": "a" * 64}}
    assert not files["interpreter"].exists()


def test_a_file_that_uv_here_does_not_know_lies_where_the_others_do(mirror: Mirror) -> None:
    mirror.add("3.12.1")
    locked = InterpreterLock(version="3.13.9", file="20270101/cpython-3.13.9+x", sha256="a" * 64)
    with build_secret(locked, mirror.uv, architecture="amd64") as files:
        told = json.loads(files["interpreter"].read_text())[locked.key("amd64")]
    assert told["url"] == f"file://{mirror.folder}/20270101/cpython-3.13.9%2Bx"


def test_without_one_a_build_is_told_nothing(mirror: Mirror) -> None:
    with build_secret(None, mirror.uv, architecture="amd64") as files:
        assert files == {}


def test_uv_without_any_is_an_error_of_its_settings(mirror: Mirror) -> None:
    locked = InterpreterLock(version="3.12.1", file="a/b", sha256="a" * 64)
    with (
        pytest.raises(ResolveError, match="knows no CPython for amd64"),
        build_secret(locked, mirror.uv, architecture="amd64"),
    ):
        pass
