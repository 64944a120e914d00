"""A mirror of CPython downloads, with one that is made of a running server's own base."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.integration.jupbox_command import StackOnBox

RELEASE = "20260101"
_TAR = """
cd /usr && python=$(basename "$(readlink -f bin/python3)") &&
tar -c --exclude=__pycache__ "bin/$python" "lib/$python"
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def interpreter_mirror(stack: StackOnBox, *, address: str, version: str) -> Iterator[str]:
    """The URL of a list for uv's `python-downloads-json-url`, with one CPython for x86-64.

    Args:
        stack: whose base has a Python of that minor version.
        address: of this machine, to listen on.
        version: what it is given out for.
    """
    with tempfile.TemporaryDirectory(prefix="jupboxtest-") as name:
        folder = Path(name)
        handler = partial(_Quiet, directory=name)
        with ThreadingHTTPServer((address, 0), handler) as server:
            url = f"http://{address}:{server.server_port}"
            _fill(folder, _archive(stack, version), version, url)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"{url}/downloads.json"
            finally:
                server.shutdown()
                thread.join()


def _fill(folder: Path, archive: bytes, version: str, url: str) -> None:
    file = f"{RELEASE}/cpython-{version}-x86_64.tar.gz"
    (folder / RELEASE).mkdir()
    (folder / file).write_bytes(archive)
    major, minor, patch = map(int, version.split("."))
    entry = {
        "name": "cpython", "arch": {"family": "x86_64", "variant": None}, "os": "linux",
        "libc": "gnu", "major": major, "minor": minor, "patch": patch, "prerelease": "",
        "url": f"{url}/{file}", "sha256": hashlib.sha256(archive).hexdigest(), "variant": None,
    }  # fmt: skip
    text = json.dumps({f"cpython-{version}-linux-x86_64-gnu": entry})
    (folder / "downloads.json").write_text(text)


def _archive(stack: StackOnBox, version: str) -> bytes:
    """Debian's Python, which finds what belongs to it from where it lies, in the form of uv's."""
    container = str(stack.inspect()["Id"])
    command = ["docker", "exec", stack.box.container, "docker", "exec", container, "sh", "-c", _TAR]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(done.stdout)) as given,
        tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as made,
    ):
        for member in given:
            if not member.issym():  # some lead out of it, and uv takes none that does
                member.name = f"python/{member.name}"
                made.addfile(member, given.extractfile(member) if member.isfile() else None)
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, f"python{version.rpartition('.')[0]}"
        made.addfile(link)
    return buffer.getvalue()
