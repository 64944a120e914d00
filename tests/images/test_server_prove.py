"""The proof that a new release gives before the old one goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupbox_server import prove
from jupbox_server.room import Disk

from tests.images.box import Answer, RunningServer, Seal, authority, until
from tests.images.conftest import serving


def _prove(server: RunningServer, *more: str, seal: Path | None = None) -> Answer:
    return server.run(
        "prove", "--seal", str(seal or server.seal.folder), "--control", str(server.control),
        "--port", str(server.port), *more,
    )  # fmt: skip


def test_a_server_that_works_names_its_kernel_and_keeps_none(server: RunningServer) -> None:
    before = server.ask("GET", "/api/kernels")
    answer = _prove(server)
    assert (answer.status, answer.errors) == (0, "")
    assert json.loads(answer.text)["kernel"] == "python3"
    until(lambda: server.ask("GET", "/api/kernels") == before)


def test_another_certificate_than_the_seals_is_no_proof(
    server: RunningServer, tmp_path: Path
) -> None:
    other = Seal(folder=tmp_path / "seal", ca=authority())
    other.create()
    answer = _prove(server, seal=other.folder)
    assert answer.status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in answer.errors


def test_no_server_is_no_proof(tmp_path: Path, server: RunningServer) -> None:
    answer = server.run("prove", "--control", str(tmp_path / "none.sock"), "--limit", "0.5")
    assert answer.status == 1
    assert "does not come up" in answer.errors


@pytest.mark.parametrize(
    "program",
    ["import sys; sys.exit(3)", "import time; time.sleep(60)"],
    ids=["ends at once", "never answers"],
)
def test_a_kernel_that_does_not_run_a_cell_is_no_proof(program: str, tmp_path: Path) -> None:
    spec = tmp_path / "kernels" / "broken"
    spec.mkdir(parents=True)
    argv = ["python3", "-c", program, "{connection_file}"]
    spec.joinpath("kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "broken", "language": "python"})
    )
    settings = 'c.MappingKernelManager.default_kernel_name = "broken"\n'
    with serving(settings, {"JUPYTER_PATH": str(tmp_path)}) as broken:
        answer = _prove(broken, "--limit", "5")
    assert answer.status == 1, answer.text
    assert "kernel" in answer.errors
    assert "Traceback" not in answer.errors


@pytest.mark.parametrize(("free", "status"), [(0, 4), (10**9, 1)])
def test_a_full_disk_is_told_from_a_release_that_fails(
    free: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise prove.ProofError("no kernel starts: the server answers 500")

    disk = Disk(path="/", free_bytes=free, total_bytes=10**10, nearly_full=True)
    monkeypatch.setattr(prove, "prove", fail)
    monkeypatch.setattr(prove, "measure", lambda folders: (disk,))
    assert prove.main([]) == status
    assert "no kernel starts" in capsys.readouterr().err
