"""What apt is asked in a base, and what its answer means."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from jupbox.errors import DiskFullError, EngineError, JupboxError, ResolveError
from jupbox.host.engine import Engine
from jupbox.host.simulate import Simulated, resolve_apt
from jupbox.lock import AptPackage
from tests.unit.host.test_network import look

HASH = "1" * 64
SAID = f"""\
@INSTALLED
libc6 2.41-12 amd64
bash 5.2.37-2+b5 amd64
@DATES
Date: Mon, 23 Nov 2026 08:00:00 UTC
@PYTHON
3.13.5-1
@LAYER
'http://m/g.deb' git_1%3a2_amd64.deb 8862 SHA256:{HASH}
@LAYER
'http://m/g.deb' git_1%3a2_amd64.deb 8862 SHA256:{HASH}
'http://m/r.deb' r-base_4.5_all.deb 8862 SHA256:{HASH}
"""
GIT = AptPackage(name="git", version="1:2", architecture="amd64", sha256=HASH)


@dataclass
class FakeEngine:
    """Runs nothing; says what it is told."""

    said: str = SAID
    code: int = 0
    errors: str = ""
    place: str = "workbox"
    lost: JupboxError | None = None
    argv: list[str] = field(default_factory=list)
    script: str = ""

    def try_run(
        self, image: str, command: list[str], *, input: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        self.argv, self.script = command, input.decode()
        return subprocess.CompletedProcess(
            command, self.code, stdout=self.said.encode(), stderr=self.errors.encode()
        )

    def unreachable(self) -> JupboxError | None:
        return self.lost

    def error(self, doing: str, said: str) -> JupboxError:
        return DiskFullError(f"{doing}: {said}", remedy="none")


def ask(
    engine: FakeEngine, layers: Sequence[Sequence[str]] = ((),), keep: Sequence[AptPackage] = (),
    bundle: Path | None = None,
) -> Simulated:  # fmt: skip
    return resolve_apt(
        cast(Engine, engine), "base:tag", layers, look(bundle=bundle), called="debian:trixie-slim",
        keep=keep,
    )  # fmt: skip


def test_the_answer_has_packages_by_layer_the_bases_own_and_the_archives_time() -> None:
    assert ask(FakeEngine()) == Simulated(
        packages=(
            GIT,
            AptPackage(name="r-base", version="4.5", architecture="all", sha256=HASH, layer=2),
        ),
        python_version="3.13",
        installed=(
            AptPackage(name="bash", version="5.2.37-2+b5", architecture="amd64"),
            AptPackage(name="libc6", version="2.41-12", architecture="amd64"),
        ),
        snapshot="20261123T080000Z",
    )


def test_an_archive_that_says_no_time_and_a_base_that_has_all_are_answers_too() -> None:
    found = ask(FakeEngine("@INSTALLED\n@DATES\n@PYTHON\n2:3.14.0-1\n@LAYER\n"))
    assert found == Simulated(packages=(), python_version="3.14")


def test_each_layer_is_one_word_python_is_in_the_first_and_order_is_no_matter() -> None:
    engine = FakeEngine()
    ask(engine, [["tree", "git=1:2", "git=1:2"], [], ["r-base"]])
    assert engine.argv == ["sh", "-s", "--", "git=1:2 python3 tree", "", "r-base"]


def test_what_stays_is_pinned() -> None:
    engine = FakeEngine()
    ask(engine, keep=[GIT])
    assert "Package: git\nPin: version 1:2\nPin-Priority: 1001\n" in engine.script


def test_no_place_of_the_script_is_left_unfilled(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("CERTIFICATE")
    engine = FakeEngine()
    ask(engine, bundle=tmp_path / "ca.pem")
    assert "CERTIFICATE" in engine.script
    for place in ("@EXPORTS@", "@SOURCES@", "@CA@", "@PREFERENCES@"):
        assert place not in engine.script


@pytest.mark.parametrize(
    ("engine", "kind", "message"),
    [
        (FakeEngine(code=41, errors="E: no route\n"), ResolveError, "not reached.*: no route"),
        (
            FakeEngine("@INSTALLED\n@UNKNOWN gitt treee\n", 42),
            ResolveError,
            "No apt package is called gitt, treee in debian:trixie-slim",
        ),
        (
            FakeEngine(code=43, errors="talk\nE: held broken packages\n"),
            ResolveError,
            "apt cannot install python3: held broken packages",
        ),
        (
            FakeEngine(code=125, errors="no sh\n"),
            EngineError,
            "could not be asked in debian.*no sh",
        ),
        (FakeEngine(code=43, errors="no space left on device"), DiskFullError, "asking apt"),
        (
            FakeEngine(code=255, lost=EngineError("It is gone.", remedy="none")),
            EngineError,
            "It is gone",
        ),
    ],
)
def test_a_refusal_says_what_apt_said(
    engine: FakeEngine, kind: type[JupboxError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ask(engine)
