"""The Jupyter server of a box: ServerApp with the seal's identity, TLS and control socket."""

from __future__ import annotations

import os
import ssl
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.auth.identity import LegacyIdentityProvider
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import JupyterServerAuthWarning
from tornado.httpserver import HTTPServer
from tornado.ioloop import PeriodicCallback
from traitlets import Bool, default
from traitlets.config import Config

from . import environment, idle, keeping, room
from .activity import Activity
from .config import keep_users_own, sections_of
from .contents import WholeFileManager
from .control_socket import open_control_socket
from .handlers import LANDING, handlers
from .heartbeat import Heartbeat
from .identity import SealedIdentityProvider
from .oom import OomGuard
from .paths import Paths
from .room import RoomWatch
from .tls import PairWatch, load_context

#: How often the seal is looked at, in milliseconds.
LOOK_EVERY = 1000

_COOKIE_SECRET_BYTES = 32


def _ours(paths: Paths, *, ip: str, port: int, root_dir: Path, allow_root: bool) -> Config:
    """What no configuration file changes."""
    config = Config()
    config.ServerApp = Config(
        ip=ip,
        port=port,
        port_retries=0,  # another port would be one that nobody published
        sock="",
        base_url="/",
        root_dir=str(root_dir),
        allow_root=allow_root,
        open_browser=False,
        quit_button=False,
        terminals_enabled=True,
        # Jupyter's own TLS, for its own addresses in the log; see init_httpserver.
        certfile=str(paths.certificate),
        keyfile=str(paths.key),
        identity_provider_class=SealedIdentityProvider,
        authorizer_class=AllowAllAuthorizer,
        allow_unauthenticated_access=False,
        authenticate_prometheus=True,
        allow_remote_access=True,  # the identity checks the Host header against the seal
        disable_check_xsrf=False,
        allow_origin="",
        allow_origin_pat="",
        allow_credentials=False,
        trust_xheaders=False,
        shutdown_no_activity_timeout=0,
        answer_yes=True,
    )
    # the image is read-only: what its manager installs could not even be written
    config.LabApp.extension_manager = "readonly"
    if keeping.wanted():
        config.LabApp.extra_labextensions_path = [str(keeping.LAB_EXTENSIONS)]
    return config


class BoxServerApp(ServerApp):
    """Jupyter's server, closed unless the seal opens it.

    Args:
        paths: where the seal and the control socket are.
        ip: address to listen on.
        port: port to listen on; taken means an error, never another one.
        root_dir: the folder that opens.
        allow_root: run as uid 0; for tests.
        heartbeat: what the health probe sees of the event loop.
    """

    def __init__(
        self,
        *,
        paths: Paths,
        ip: str,
        port: int,
        root_dir: Path,
        allow_root: bool = False,
        heartbeat: Heartbeat | None = None,
        **kwargs: Any,
    ) -> None:
        # They name handlers that leave it to `prepare` to ask for a login, as ours here does.
        warnings.filterwarnings("ignore", category=JupyterServerAuthWarning)
        self.paths = paths
        self._heartbeat = heartbeat
        self._ours = _ours(paths, ip=ip, port=port, root_dir=root_dir, allow_root=allow_root)
        self._closed = sections_of(
            (type(self), SealedIdentityProvider, LegacyIdentityProvider, AllowAllAuthorizer)
        )
        self._told: set[str] = set()
        kwargs.setdefault("jpserver_extensions", {"jupyterlab": True})
        super().__init__(**kwargs)

    # No page in the home directory that would lead a local browser in.
    no_browser_open_file = Bool(True)

    def update_config(self, config: Config) -> None:
        """Take over what is the user's to set; ours comes last, whoever asks."""
        kept, dropped = keep_users_own(config, self._closed, self._ours.ServerApp)
        kept.merge(self._ours)
        super().update_config(kept)
        for name in sorted(set(dropped) - self._told):
            self._told.add(name)
            self.log.warning("Ignored %s in your Jupyter configuration: jupbox decides it.", name)

    @default("default_url")
    def _default_landing(self) -> str:
        return LANDING

    @default("contents_manager_class")
    def _default_contents_manager(self) -> type:
        return WholeFileManager

    @default("cookie_secret_file")
    def _default_cookie_secret_file(self) -> str:
        # not beside the kernels' connection files, which are in memory: logins outlive a restart
        folder = Path(jupyter_data_dir()) / "runtime"
        with suppress(OSError):  # on a full disk the logins end with the server
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(folder / "jupyter_cookie_secret")

    @default("kernel_manager_class")
    def _default_kernel_manager_class(self) -> Any:
        own = keeping.RecordingKernelManager
        return own if keeping.wanted() else super()._default_kernel_manager_class()

    @default("kernel_websocket_connection_class")
    def _default_kernel_websocket_connection_class(self) -> Any:
        own = keeping.RecordingConnection
        usual = super()._default_kernel_websocket_connection_class
        return own if keeping.wanted() else usual()

    @default("cookie_secret")
    def _default_cookie_secret(self) -> bytes:
        # A crash can leave the file empty, and a secret made of nothing is known to everyone.
        path = Path(self.cookie_secret_file)
        if path.exists() and path.stat().st_size < _COOKIE_SECRET_BYTES:
            path.unlink()
        return super()._default_cookie_secret()

    def init_webapp(self) -> None:
        """Jupyter's application, with our routes before those of any extension."""
        super().init_webapp()
        self.activity = Activity(
            kernels=self.kernel_manager, sessions=self.session_manager, terminals=self._terminals
        )
        self.room = RoomWatch(
            (Path.home(), Path(self.root_dir)),
            self.contents_manager,
            self.web_app.settings.setdefault("page_config_data", {}),
            self.log.warning,
        )
        routes = handlers(self.activity, lambda: self.room.disks)
        self.web_app.add_handlers(".*$", routes)  # type: ignore[no-untyped-call]
        # the user may have kernels of another kind, which nothing listens to
        recording = isinstance(self.kernel_manager, keeping.RecordingKernelManager)
        self._keeping = keeping.Keeping(self) if recording else None
        if self._keeping:
            self.activity.pending = self._keeping.pending

    def init_httpserver(self) -> None:
        """Serve with our own TLS context, and on the control socket.

        tornado wraps each new connection with what `ssl_options` is at that moment, so a fresh
        context there is all that a renewed certificate takes. Given file names it would read the
        pair anew for every connection, in the middle of a swap as well.
        """
        super().init_httpserver()
        self._use(load_context(self.paths))
        provider = self.identity_provider
        assert isinstance(provider, SealedIdentityProvider)
        self._control = self._open_control(provider)
        pair = PairWatch(self.paths, self.log)
        guard = OomGuard()

        def look() -> None:
            pair.look(self._use)
            provider.close_stale_sockets()
            # jupbox may leave it after the start; kernels started from now on have it
            environment.trust(os.environ, Path.home())
            self.activity.look()
            guard.look()

        self._looks = [
            PeriodicCallback(look, LOOK_EVERY),
            PeriodicCallback(self.room.look, room.LOOK_EVERY),
        ]
        self.io_loop.add_callback(self.room.look)  # on a full disk from the first moment
        if after := idle.wanted(os.environ):
            watch = self._idle_watch(after)
            self._looks.append(PeriodicCallback(watch.look, 1000 * watch.every))
        if self._heartbeat:
            self._looks.append(PeriodicCallback(self._heartbeat.beat, LOOK_EVERY))
        if self._keeping:
            self._keeping.start()
        for each in self._looks:
            each.start()

    def _idle_watch(self, after: float) -> idle.IdleWatch:
        async def end_terminal(name: str) -> None:
            await self.web_app.settings["terminal_manager"].terminate(name, force=True)

        return idle.IdleWatch(
            after,
            activity=self.activity,
            kernels=self.kernel_manager,
            terminals=self._terminals,
            end_terminal=end_terminal,
            log=self.log.warning,
        )

    def _terminals(self) -> Mapping[str, Any]:
        manager = self.web_app.settings.get("terminal_manager")
        return dict(manager.terminals) if manager else {}

    def _use(self, context: ssl.SSLContext) -> None:
        self.http_server.ssl_options = context

    def _open_control(self, provider: SealedIdentityProvider) -> HTTPServer:
        try:
            return open_control_socket(self.paths.control, self.web_app, provider.owners)
        except OSError as error:
            self.log.critical("The control socket cannot be opened: %s", error)
            self.exit(1)
            raise

    async def _cleanup(self) -> None:
        if keeps := getattr(self, "_keeping", None):
            await keeps.close()
        await super()._cleanup()
        if hasattr(self, "_control"):
            self._control.stop()
            self.paths.control.unlink(missing_ok=True)
