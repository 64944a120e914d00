"""What the server answers beyond Jupyter's own API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.shutdown import ShutdownHandler
from tornado import web

from . import cgroup, seal
from .activity import Activity, foreground
from .codes import LoginCodes, is_local_path
from .drift import Drift
from .identity import SealedIdentityProvider, refuse
from .room import Disk

LANDING = "/lab"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 4rem auto;
padding: 0 1rem }}</style></head>
<body><h1>{title}</h1><p>{text}</p>
<p>Or <a href="/lab">go to the notebook</a> and log in with the password.</p></body></html>
"""


def _identity(handler: JupyterHandler) -> SealedIdentityProvider:
    provider = handler.identity_provider
    assert isinstance(provider, SealedIdentityProvider)
    return provider


class OwnerHandler(JupyterHandler):
    """Answers on the control socket; to anybody else there is nothing here."""

    async def prepare(self) -> None:  # type: ignore[override]
        """Let the owner through.

        Raises:
            HTTPError: 404, the request did not come in on the control socket.
        """
        if not _identity(self).owners.own(self.request):
            refuse(self, 404, "")
        await super().prepare()

    def answer(self, value: dict[str, Any]) -> None:
        """Send `value` as JSON."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(value))


class MintHandler(OwnerHandler):
    """POST `/jupbox/login-codes`, `{"next": "/lab/tree/…"}` or nothing: a control login."""

    def initialize(self, codes: LoginCodes) -> None:
        """Take the server's codes."""
        self._codes = codes

    @web.authenticated
    async def post(self) -> None:
        """Mint a code and say where it is used.

        Raises:
            HTTPError: 400, `next` is not a path on this server.
        """
        target = (self.get_json_body() or {}).get("next") or LANDING
        if not isinstance(target, str) or not is_local_path(target):
            raise web.HTTPError(400, "next must be a path on this server")
        self.answer({"path": f"/jupbox/login?code={self._codes.mint(target)}"})


class PassHandler(OwnerHandler):
    """POST `/jupbox/client-passes`: a pass for an editor or a script."""

    @web.authenticated
    async def post(self) -> None:
        """Mint one.

        Raises:
            HTTPError: 503, no password is in force.
        """
        provider = _identity(self)
        fingerprint = provider.fingerprint()
        if fingerprint is None:
            raise web.HTTPError(503, "there is no password in force")
        self.answer({"token": provider.passes.mint(fingerprint)})


class ControlLoginHandler(JupyterHandler):
    """GET `/jupbox/login?code=…`: turns a code into a login, once."""

    def initialize(self, codes: LoginCodes) -> None:
        """Take the server's codes, and the code out of the request.

        It is out of the address before anything can log that.
        """
        self._codes = codes
        self._code = self.get_query_argument("code", "")
        self.request.uri, self.request.query = self.request.path, ""

    def set_default_headers(self) -> None:
        """Jupyter's, and nothing of this page is to be kept or told on."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")

    @allow_unauthenticated
    async def get(self) -> None:
        """Log in and go where the code leads, or say what to do."""
        if "prefetch" in self.request.headers.get("Sec-Purpose", ""):
            self.set_status(503)  # a browser that looks ahead must not use the code up
            return
        provider = _identity(self)
        target = self._codes.consume(self._code) if provider.fingerprint() else None
        if target is None:
            self.set_status(403)
            title = "This link does not work any more"
            text = (
                "A link from jupbox opens the notebook once, within a minute. "
                "Run `jupbox open` again for a new one."
            )
            self.finish(_PAGE.format(title=escape(title), text=escape(text)))
            return
        user = self.current_user = provider.generate_anonymous_user(self)
        provider.set_login_cookie(self, user)
        self.log.info("Logged in by jupbox from %s.", self.request.remote_ip)
        self.redirect(target)


class OwnerShutdownHandler(ShutdownHandler):
    """POST `/api/shutdown` is the owner's alone.

    The engine starts a server that ended at once, so from a browser it would be no shutdown but
    the loss of every kernel.
    """

    @web.authenticated
    async def post(self) -> None:
        """Shut down, on the control socket.

        Raises:
            HTTPError: 403, the request came in by the port.
        """
        if not _identity(self).owners.own(self.request):
            raise web.HTTPError(403, "This server starts again by itself; use `jupbox down`.")
        await super().post()  # type: ignore[misc]


class ActivityHandler(OwnerHandler):
    """GET `/jupbox/activity`: what each kernel and terminal is doing."""

    def initialize(self, activity: Activity) -> None:
        """Take the server's watch."""
        self._activity = activity

    @web.authenticated
    async def get(self) -> None:
        """Say what they do, since when."""
        self.answer(await self._activity.report())


class SummaryHandler(OwnerHandler):
    """GET `/jupbox/summary`: what `jupbox status` shows of the inside, in one answer."""

    def initialize(self, drift: Drift, disks: Callable[[], Sequence[Disk]]) -> None:
        """Take the server's report of what is on the side, and the disks as last seen."""
        self._drift = drift
        self._disks = disks

    async def _side(self) -> dict[str, Any] | None:
        """The report, off the event loop; None while it cannot be read."""
        try:
            return await asyncio.to_thread(self._drift.report)
        except OSError as error:
            self.log.warning("What is installed beside the image cannot be read: %s", error)
            return None

    @web.authenticated
    async def get(self) -> None:
        """Count and measure."""
        kernels = self.kernel_manager.list_kernels()  # type: ignore[no-untyped-call]
        manager = self.settings.get("terminal_manager")
        terminals = list(manager.terminals.values()) if manager else []
        application: Any = self.application
        use = asdict(cgroup.usage())
        self.answer(
            {
                "kernels": len(kernels),
                "busy": sum(kernel["execution_state"] == "busy" for kernel in kernels),
                "terminals": len(terminals),
                "terminals_busy": sum(foreground(each) is not None for each in terminals),
                "version": metadata.version("jupyter_server"),
                "jupyterlab": metadata.version("jupyterlab"),
                "started": self.settings["started"].isoformat(),
                "last_activity": application.last_activity().isoformat(),
                "seal": seal.description(_identity(self).paths.description),
                "side": await self._side(),
                "disks": [asdict(disk) for disk in self._disks()],
                **use,
            }
        )


def handlers(
    activity: Activity, disks: Callable[[], Sequence[Disk]] = tuple
) -> list[tuple[Any, ...]]:
    """The routes, sharing one store of codes, one watch and one report of the side.

    Args:
        activity: what the kernels and terminals do.
        disks: the disks as last seen.
    """
    codes = {"codes": LoginCodes()}
    return [
        (r"/jupbox/login", ControlLoginHandler, codes),
        (r"/jupbox/login-codes", MintHandler, codes),
        (r"/jupbox/client-passes", PassHandler),
        (r"/jupbox/activity", ActivityHandler, {"activity": activity}),
        (r"/jupbox/summary", SummaryHandler, {"drift": Drift(Path.home()), "disks": disks}),
        (r"/api/shutdown", OwnerShutdownHandler),
    ]
