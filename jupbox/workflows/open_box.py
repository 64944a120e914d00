"""`open`: tunnel and logged-in browser."""

from __future__ import annotations

import itertools
import subprocess
import time
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jupbox.console import Console
from jupbox.errors import (
    AuthError,
    HostError,
    HostKeyError,
)
from jupbox.host import stack as stacks
from jupbox.host.files import redirect_file, runtime_directory
from jupbox.host.inspected import Container
from jupbox.host.machine import free_port
from jupbox.host.ssh import SshMachine
from jupbox.release import deploying
from jupbox.site import Surroundings
from jupbox.workflows.found import Found, container_of, control, find, url_of, user_of

_RETRY_SECONDS: Final = (1, 1, 2)
_CONNECT_SECONDS: Final = 5
"""While a network is away a try is short, so that one begins soon after its return."""
_REFUSED_LOGINS: Final = 2


def open_box(
    box_name: str | None, *, around: Surroundings, console: Console, browser: bool,
    print_url: bool,
) -> None:  # fmt: skip
    """Bring the box's server to this machine and log the browser in."""
    found = find(box_name, around=around, console=console)
    container = container_of(found, running=True)
    assert container.published is not None
    port = container.published[1]
    site = found.site
    if browser or print_url:
        _ensure_started(found, container, port, console=console)
    if not isinstance(site.machine, SshMachine):
        if browser or print_url:
            _log_in(found, container, url_of(site, port), console=console, print_url=print_url)
        else:
            console.line(url_of(site, port))
        _say_dashboards(container.ports, console)
        return
    machine = site.machine
    ports = {there: free_port(there) for there in (port, *container.ports.values())}
    with suppress(KeyboardInterrupt):
        with _forwarded(machine, port, ports) as forward, ExitStack() as pages:
            if browser or print_url:
                page = _log_in(found, container, forward.url, console=console, print_url=print_url)
                if page:
                    pages.callback(page.unlink, missing_ok=True)
            _say_dashboards(forward.dashboards, console, host=site.box.host)
            console.plain(f"{forward.url} leads to {site.box.host} until Ctrl-C.")
            machine.attend(forward.session)
        while True:
            console.note(f"The connection to {site.box.host} was lost. Connecting again ...")
            with ExitStack() as opened:
                forward = _forwarded_again(opened, machine, port, ports)
                console.plain(f"Connected again: {forward.url}")
                _say_dashboards(forward.dashboards, console, host=site.box.host)
                machine.attend(forward.session)
    console.plain(f"Closed; the server on {site.box.host} runs on.")


def _ensure_started(found: Found, container: Container, port: int, *, console: Console) -> None:
    """Wait for a server that has only just begun, as after the box's boot.

    Raises:
        ServerError: it ended, or did not answer in time.
    """
    site = found.site
    if container.health != "starting":
        return
    public = stacks.public_certificates(site.engine, found.state)
    if public is not None:
        with console.stage("Waiting for its answer over HTTPS"):
            deploying.wait(site, port, public)


@dataclass(frozen=True, kw_only=True)
class _Forward:
    """Ports of this machine that lead to the box's server.

    Attributes:
        dashboards: further ports, the box's number to the one here.
        session: ends when the connection does.
    """

    url: str
    dashboards: Mapping[int, int]
    session: subprocess.Popen[bytes]


@contextmanager
def _forwarded(machine: SshMachine, port: int, ports: Mapping[int, int]) -> Iterator[_Forward]:
    """Forward the server's port and the others, the box's number to the one wanted here."""
    with ExitStack() as tunnels:
        here = {
            there: tunnels.enter_context(machine.tunnel(there, local_port=wanted))
            for there, wanted in ports.items()
        }
        session = machine.hold()
        try:
            url = f"https://localhost:{here.pop(port)}/lab"
            yield _Forward(url=url, dashboards=here, session=session)
        finally:
            session.terminate()
            session.wait()


def _say_dashboards(ports: Mapping[int, int], console: Console, *, host: str = "") -> None:
    """A line for each further port; nothing listens there before something is started."""
    for there, here in ports.items():
        whose = f"{host}'s" if host else "the container's"
        console.plain(f"http://localhost:{here} leads to {whose} port {there}.")


def _forwarded_again(
    opened: ExitStack, machine: SshMachine, port: int, ports: Mapping[int, int]
) -> _Forward:
    """Forward as soon as the host answers again; `opened` ends it.

    Raises:
        AuthError: it refused two logins; a host that boots may refuse one.
        HostKeyError: another host answers.
    """
    machine.connect_seconds = _CONNECT_SECONDS
    refused = 0
    pauses = itertools.chain(_RETRY_SECONDS, itertools.repeat(_RETRY_SECONDS[-1]))
    while True:
        while not machine.is_there():
            time.sleep(_RETRY_SECONDS[0])
        try:
            return opened.enter_context(_forwarded(machine, port, ports))
        except HostKeyError:
            raise
        except AuthError:
            refused += 1
            if refused == _REFUSED_LOGINS:
                raise
        except HostError:
            pass  # it is still away
        time.sleep(next(pauses))


def _log_in(
    found: Found, container: Container, url: str, *, console: Console, print_url: bool
) -> Path | None:
    """Print the link of a control login, or send the browser there by a page, which is returned."""
    path = control(found.site.engine, container, "login", user=user_of(found))["path"]
    link = url.removesuffix("/lab") + str(path)
    if print_url:
        console.line(link)
        console.plain("That link logs a browser in, once, within a minute.")
        token = control(found.site.engine, container, "pass", user=user_of(found))["token"]
        console.line(f"{url.removesuffix('/lab')}/?token={token}")
        console.plain("That one is for editors and scripts, for a day or until the next password.")
        return None
    page = redirect_file(runtime_directory(), link)
    if webbrowser.open(page.as_uri()):
        return page
    page.unlink(missing_ok=True)
    console.note("No browser was found here; this link logs in once, within a minute:")
    console.line(link)
    return None
