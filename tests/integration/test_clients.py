"""Editors and scripts attach with what `open --url` prints, the CA by SSL_CERT_FILE."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.boxes.boxes import wait_until
from tests.integration.jupbox_command import Laptop, MainJob

pytestmark = [pytest.mark.box, pytest.mark.slow]

_CLIENT_URL = re.compile(r"^(https://localhost:\d+)/\?token=(\S+)$", re.MULTILINE)

# What a user would write; certificates are verified by default.
SCRIPT = """
import sys
from jupyter_kernel_client import JupyterKernelClient

url, token = sys.stdin.read().split()
with JupyterKernelClient(server_url=url, token=token) as kernel:
    reply = kernel.execute("import os; print(6 * 7, os.getcwd())")
    print(reply["status"], reply["outputs"][0]["text"])
"""


@contextmanager
def opened(laptop: Laptop, box: str, folder: Path) -> Iterator[tuple[str, str]]:
    """`jupbox open --url` for as long as the test needs it: (address, token)."""
    said, progress = folder / "said", folder / "progress"
    command = [sys.executable, "-m", "jupbox", "open", box, "--url"]
    with said.open("w") as out, progress.open("w") as err:
        process = subprocess.Popen(
            command, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
            env=dict(laptop.environ), cwd=laptop.folder,
        )  # fmt: skip

        def answered() -> bool:
            assert process.poll() is None, progress.read_text()
            return bool(_CLIENT_URL.search(said.read_text()))

        try:
            try:
                wait_until(answered, "the link", timeout=120)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{progress.read_text()}") from None
            found = _CLIENT_URL.search(said.read_text())
            assert found is not None
            yield found[1], found[2]
        finally:
            process.terminate()
            process.wait(30)


def test_a_link_that_is_asked_for_while_the_server_starts_is_waited_for(
    ada: MainJob, tmp_path: Path
) -> None:
    ada.stack.docker("restart", ada.stack.identity()[0])
    assert ada.stack.inspect()["State"]["Health"]["Status"] == "starting"
    with opened(ada.laptop, ada.box.name, tmp_path):
        assert "Waiting for its answer over HTTPS" in (tmp_path / "progress").read_text()


def test_a_plain_client_runs_a_cell_over_the_tunnel(ada: MainJob, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(ada.ca_pem)
    trust = {"SSL_CERT_FILE": str(authority), "REQUESTS_CA_BUNDLE": str(authority)}
    with opened(ada.laptop, ada.box.name, tmp_path) as (url, token):
        laptop = ada.laptop.at(tmp_path, **trust)
        done = laptop.run(sys.executable, "-c", SCRIPT, input=f"{url} {token}")
        assert done.code == 0, done.stderr
        assert done.stdout.startswith("ok 42 /home/ada/notebooks")
        # and without the CA it is not taken for the box
        blind = ada.laptop.at(tmp_path, SSL_CERT_FILE="", REQUESTS_CA_BUNDLE="")
        refused = blind.run(sys.executable, "-c", SCRIPT, input=f"{url} {token}")
        assert refused.code != 0
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
