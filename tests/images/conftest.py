"""The real server of the sealed image, as a process on a free port, with no engine."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import MappingProxyType

import pytest

SERVER = Path(__file__).resolve().parents[2] / "images" / "server"
sys.path.insert(0, str(SERVER))  # as PYTHONPATH has it in the image

from tests.images.box import Browser, RunningServer, Seal, authority  # noqa: E402

TOKEN = "sesame-open-please"

# What a pasted line in ~/.jupyter, and a few that nobody would paste, could try.
USER_CONFIGURATION = f"""
c.IdentityProvider.token = "{TOKEN}"
c.ServerApp.token = "{TOKEN}"
c.ServerApp.password = ""
c.Configurable.token = "{TOKEN}"
c.PasswordIdentityProvider.hashed_password = ""
c.SealedIdentityProvider.token = "{TOKEN}"
c.SealedIdentityProvider.cookie_name = "mine"
c.BoxServerApp.allow_unauthenticated_access = True
c.JupyterApp.disable_check_xsrf = True
c.ServerApp.identity_provider_class = "jupyter_server.auth.identity.IdentityProvider"
c.ServerApp.authorizer_class = "jupyter_server.auth.authorizer.Authorizer"
c.ServerApp.allow_unauthenticated_access = True
c.ServerApp.disable_check_xsrf = True
c.ServerApp.allow_origin = "*"
c.ServerApp.tornado_settings = {{"disable_check_xsrf": True, "allow_unauthenticated_access": True}}
c.ServerApp.cookie_secret = b"known"
c.ServerApp.trust_xheaders = True
c.ServerApp.certfile = ""
c.ServerApp.port = 1
c.ServerApp.root_dir = "/"
c.FileContentsManager.root_dir = "/"
c.ServerApp.quit_button = True
c.ServerApp.terminals_enabled = False
c.ServerApp.jpserver_extensions = {{"jupyterlab": False}}
c.ServerApp.max_body_size = 123456789
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    configuration: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
    *,
    prepared: Path | None = None,
) -> Iterator[RunningServer]:
    """A server in a home directory of its own, until the end of the block.

    Args:
        configuration: the user's jupyter_server_config.py.
        variables: added to its environment.
        prepared: a home directory that is there already, with nothing added to it.
    """
    # Not pytest's folder: a unix socket's path has a limit of 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="jupbox-"))
    home = prepared or folder / "home"
    if prepared is None:
        (home / ".jupyter").mkdir(parents=True)
        (home / "notebooks").mkdir()
        (home / ".jupyter" / "jupyter_server_config.py").write_text(configuration)
        runtime = home / ".local" / "share" / "jupyter" / "runtime"
        runtime.mkdir(parents=True, mode=0o700)
        (runtime / "jupyter_cookie_secret").touch()  # what a full disk leaves behind
    seal = Seal(folder=folder / "seal", ca=authority())
    seal.create()
    running = RunningServer(
        folder=folder,
        home=home,
        seal=seal,
        port=_free_port(),
        environment={
            "PYTHONPATH": str(SERVER),
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "SHELL": "/bin/sh",
            **variables,
        },
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """One server for all tests of a worker, with everything in place that could weaken it.

    Tests that change its password or certificate leave a valid one behind; a login of one test
    is nothing that another may count on.
    """
    opening = {"JUPYTER_TOKEN": TOKEN, "JUPYTER_SERVER_ALLOW_UNAUTHENTICATED_ACCESS": "true"}
    with serving(USER_CONFIGURATION, opening) as running:
        yield running


_addresses = count(1)


@pytest.fixture
def browser(server: RunningServer) -> Browser:
    """A visitor from an address of their own, so that guesses of one test are no other's."""
    number = next(_addresses)
    return Browser(server=server, address=f"127.9.{number // 250}.{number % 250 + 1}")
