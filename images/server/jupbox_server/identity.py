"""Who may come in: whoever knows the sealed password, and the owner on the control socket."""

from __future__ import annotations

import asyncio
import hmac
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.identity import PasswordIdentityProvider, User
from jupyter_server.auth.login import LoginFormHandler
from tornado import web
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketHandler
from traitlets import Bool, Dict, Instance, default

from . import seal
from .control_socket import OwnerConnections
from .guessing import GuessLimit
from .passes import ClientPasses
from .paths import Paths

OWNER = User(username="owner", name="Owner", display_name="Owner", initials="O")

#: Passwords that wait for their turn to be checked; each check takes a core for a moment.
_WAITING_CHECKS = 8
_LONGEST_PASSWORD = 1024
#: Seconds for a browser to answer the closing of its websocket before the line is cut.
_CLOSING = 1.0
#: "policy violation", RFC 6455
_POLICY = 1008


def refuse(handler: Any, status: int, message: str) -> NoReturn:
    """End a request from within `prepare`, before Jupyter knows whose it is.

    Raises:
        HTTPError: always.
    """
    handler.current_user = handler._jupyter_current_user = None
    raise web.HTTPError(status, message)


def _verify(password_hash: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(password_hash.removeprefix("argon2:"), password)
    except (VerificationError, InvalidHashError):
        return False


class LoginHandler(LoginFormHandler):
    """Jupyter's login form, with the check off the event loop and a limit on guessing."""

    @allow_unauthenticated
    async def post(self) -> None:
        """Log in with a password, or say how long to wait."""
        provider = self.identity_provider
        assert isinstance(provider, SealedIdentityProvider)
        wait = provider.admit(self.request.remote_ip or "")
        if wait:
            seconds = math.ceil(wait)
            self.set_status(429)
            self.set_header("Retry-After", str(seconds))
            again = f"Too many wrong passwords. Try again in {seconds} s, or use `jupbox open`."
            self._render(message={"error": again})  # type: ignore[no-untyped-call]
            return
        if not await provider.check(self.get_body_argument("password", "", strip=False)):
            self.set_status(401)
            self._render(message={"error": "Invalid credentials"})  # type: ignore[no-untyped-call]
            return
        provider.limit.succeeded(self.request.remote_ip or "")
        user = self.current_user = provider.generate_anonymous_user(self)
        self.log.info("Logged in by password from %s.", self.request.remote_ip)
        provider.set_login_cookie(self, user)
        target = self.get_argument("next", default=self.base_url)
        self._redirect_safe(target)  # type: ignore[no-untyped-call]


class SealedIdentityProvider(PasswordIdentityProvider):
    """Password login against the seal, and the owner's passes for other clients.

    No token can be configured, whatever a variable or a file says. The hash is read from the
    seal at each question, and its fingerprint is part of the cookie's name, so that a new
    password ends every older login at once; without a usable hash nobody logs in.
    """

    paths = Instance(Paths)
    owners = Instance(OwnerConnections, ())
    limit = Instance(GuessLimit, ())
    passes = Instance(ClientPasses, ())
    need_token = Bool(False)
    allow_password_change = Bool(False)
    # Served over TLS only; never sent along by another site's forms and frames.
    secure_cookie = Bool(True)
    cookie_options = Dict({"samesite": "Lax"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sockets: WeakKeyDictionary[WebSocketHandler, str] = WeakKeyDictionary()
        self._checks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="password")
        self._waiting = 0
        self._looks_without_hash = 0

    @default("paths")
    def _default_paths(self) -> Paths:
        parent = getattr(self.parent, "paths", None)
        return parent if isinstance(parent, Paths) else Paths()

    @default("login_handler_class")
    def _default_login_handler_class(self) -> type[LoginHandler]:
        return LoginHandler

    # Properties in place of traits: neither configuration nor an assignment reaches them.
    @property
    def token(self) -> str:  # type: ignore[override]
        """Always empty."""
        return ""

    @property
    def hashed_password(self) -> str:  # type: ignore[override]
        """The hash in the seal, empty while there is none that can be used."""
        return seal.current_hash(self.paths.password_hash) or ""

    @property
    def auth_enabled(self) -> bool:
        """Always."""
        return True

    def fingerprint(self) -> str | None:
        """Of the hash in force, or None while there is none."""
        current = self.hashed_password
        return seal.fingerprint(current) if current else None

    def cookie_secret_hook(self, h: hmac.HMAC) -> hmac.HMAC:
        """Leave the secret alone: the cookie's name already ends with the password's life.

        Mixing the hash in, as Jupyter does once at the start, would end the logins that were
        made after a live change at the next restart.
        """
        return h

    def get_cookie_name(self, handler: web.RequestHandler) -> str:
        """Jupyter's name for this host and port, and the hash's fingerprint."""
        return f"{super().get_cookie_name(handler)}-{self.fingerprint() or 'closed'}"

    def get_user_cookie(self, handler: web.RequestHandler) -> Any:
        """The cookie's user; nobody while there is no password."""
        return super().get_user_cookie(handler) if self.fingerprint() else None

    async def get_user_token(self, handler: web.RequestHandler) -> User | None:
        """Who shows a pass that the owner had made."""
        shown = self.get_token(handler)
        if shown and self.passes.holds(shown, self.fingerprint()):
            return self.generate_anonymous_user(handler)
        return None

    async def get_user(self, handler: web.RequestHandler) -> User | None:
        """The owner on the control socket, else the cookie's user, at the box's own names only.

        Raises:
            HTTPError: 403, the Host header names something else (DNS rebinding).
        """
        if self.owners.own(handler.request):
            # What Jupyter asks to skip the checks against forged browser requests.
            handler._token_authenticated = True  # type: ignore[attr-defined]
            return OWNER
        if not seal.host_allowed(handler.request.host, seal.names(self.paths.description)):
            refuse(handler, 403, "This server is not known by that name.")
        fingerprint = self.fingerprint()
        user = await self._get_user(handler)
        if user and fingerprint and isinstance(handler, WebSocketHandler):
            self._sockets[handler] = fingerprint
        return user

    def admit(self, address: str) -> float:
        """0 if a password from `address` may be checked now, else the seconds to wait."""
        return 1.0 if self._waiting >= _WAITING_CHECKS else self.limit.admit(address)

    async def check(self, password: str) -> bool:
        """Whether `password` is the sealed one, from the question to the answer."""
        wanted = self.hashed_password
        if not wanted or not 0 < len(password) <= _LONGEST_PASSWORD:
            return False
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._checks, _verify, wanted, password)
        finally:
            self._waiting -= 1
        # A password that was replaced meanwhile must not open the new one's session.
        return right and wanted == self.hashed_password

    def passwd_check(self, password: str) -> bool:
        """As `check`, for callers that do not wait."""
        wanted = self.hashed_password
        return bool(wanted and password) and _verify(wanted, password)

    def process_login_form(self, handler: web.RequestHandler) -> User | None:
        """Nobody: LoginHandler alone checks passwords, behind the limit."""
        return None

    def close_stale_sockets(self) -> None:
        """Close the websockets of logins that the password in force did not make.

        A hash that cannot be read is given one more look: its writer may be halfway through.
        """
        current = self.fingerprint()
        self._looks_without_hash = 0 if current else self._looks_without_hash + 1
        if self._looks_without_hash == 1:
            return
        for handler, fingerprint in list(self._sockets.items()):
            if fingerprint != current:
                del self._sockets[handler]
                self._close(handler)

    def _close(self, handler: WebSocketHandler) -> None:
        connection = handler.ws_connection
        if connection is None:
            return
        handler.close(_POLICY, "The password was changed.")
        stream = getattr(connection, "stream", None)
        if stream is not None:
            IOLoop.current().call_later(_CLOSING, stream.close)
