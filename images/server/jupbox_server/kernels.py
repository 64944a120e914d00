"""Jupyter's kernels and their connections, with the recorder listening."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from .runs import Recorder, Run

_V1 = "v1.kernel.websocket.jupyter.org"

#: In a request's metadata: show me that run, and run nothing.
ATTACH = "jupbox_attach"


class RecordingKernelManager(AsyncMappingKernelManager):
    """Jupyter's kernels, each listened to from its start to its end."""

    def __init__(self, **kwargs: Any) -> None:
        self.recorder = Recorder()
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]

    def start_watching_activity(self, kernel_id: str) -> None:
        """As Jupyter does, and for the recorder."""
        super().start_watching_activity(kernel_id)  # type: ignore[no-untyped-call]
        self.recorder.watch(kernel_id, self._kernels[kernel_id])
        # when it dies and is started again
        self.add_restart_callback(kernel_id, partial(self.recorder.died, kernel_id))

    def stop_watching_activity(self, kernel_id: str) -> None:
        """As Jupyter does, and for the recorder."""
        super().stop_watching_activity(kernel_id)  # type: ignore[no-untyped-call]
        self.recorder.unwatch(kernel_id)

    async def restart_kernel(  # type: ignore[override]
        self, kernel_id: str, now: bool = False
    ) -> Any:
        """As Jupyter does, and for the recorder."""
        self.recorder.died(kernel_id)
        return await super().restart_kernel(kernel_id, now=now)  # type: ignore[no-untyped-call]

    def stop_buffering(self, kernel_id: str) -> None:
        """Forget what a page missed that does not come back; but not what it is asked."""
        buffer = self._kernel_buffers.get(kernel_id) if kernel_id in self._kernel_buffers else None
        stream = buffer["channels"].get("stdin") if buffer else None
        if buffer and stream is not None:
            page = buffer["session_key"].removeprefix(f"{kernel_id}:")
            missed = [parts for channel, parts in buffer["buffer"] if channel == "stdin"]
            if self.recorder.adopt(kernel_id, page, stream, missed):
                del buffer["channels"]["stdin"]
        super().stop_buffering(kernel_id)  # type: ignore[no-untyped-call]


class RecordingConnection(ZMQChannelsWebsocketConnection):
    """A page's connection to a kernel, its requests known to the recorder."""

    @property
    def _recorder(self) -> Recorder | None:
        return getattr(self.multi_kernel_manager, "recorder", None)

    def connect(self) -> Any:
        """Come up; a page that comes back is told what it missed, all of it."""
        recorder, manager = self._recorder, self.multi_kernel_manager
        buffered = manager._kernel_buffers.get(self.kernel_id)
        back = bool(buffered) and buffered["session_key"] == self.session_key
        limited = self.limit_rate
        # the limit is for what a kernel prints now; it would drop what was missed in an hour
        self.limit_rate = limited and not back
        if recorder is not None:
            recorder.returns(self.kernel_id, self)
        connected = super().connect()
        if connected is None:
            return None
        connected.add_done_callback(lambda _: setattr(self, "limit_rate", limited))
        if recorder is not None:
            # after Jupyter's own callback, which replays what was buffered
            connected.add_done_callback(lambda _: recorder.returned(self.kernel_id, self))
        return connected

    def disconnect(self) -> None:  # type: ignore[override]
        """Go; whatever the kernel asks this page is kept for another."""
        recorder, manager = self._recorder, self.multi_kernel_manager
        if recorder is not None:
            recorder.disconnected(self.kernel_id, self)
            others = manager._kernel_connections.get(self.kernel_id, 0) > 1
            stream = self.channels.get("stdin")
            asks = others and stream is not None and not stream.closed()
            if asks and recorder.adopt(self.kernel_id, self.session_id, stream, []):
                del self.channels["stdin"]
        super().disconnect()  # type: ignore[no-untyped-call]

    # --- from the page ---

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """Hand a page's message on to the kernel, but for those that are for the recorder."""
        recorder = self._recorder
        if recorder is None or not self.channels or not self._note(recorder, incoming_msg):
            super().handle_incoming_message(incoming_msg)

    def _note(self, recorder: Recorder, message: Any) -> bool:
        """Tell the recorder; whether the kernel need not know."""
        channel, parts = self._opened(message)
        if channel == "stdin":
            recorder.answered(self.kernel_id)
        if channel != "shell":
            return False
        header, metadata = self._part(parts, 0), self._part(parts, 2)
        cell = metadata.get("cellId")
        if header.get("msg_type") != "execute_request" or not isinstance(cell, str):
            return False
        if metadata.get(ATTACH):
            recorder.attach(self.kernel_id, self, header)
            return True
        content = self._part(parts, 3)
        if not content.get("silent"):
            run = Run(
                id=str(header["msg_id"]),
                header=header,
                kernel=self.kernel_id,
                cell=cell,
                code=str(content.get("code", "")),
                page=self.session_id,
            )
            recorder.begin(run, self)
        return False

    def _opened(self, message: Any) -> tuple[str | None, list[Any]]:
        """A message's channel, and its header, parent's header, metadata and content."""
        if self.subprotocol == _V1:
            return deserialize_msg_from_ws_v1(message)  # type: ignore[no-any-return,no-untyped-call]
        if isinstance(message, bytes):
            opened = deserialize_binary_message(message)  # type: ignore[no-untyped-call]
        else:
            opened = json.loads(message)
        names = ("header", "parent_header", "metadata", "content")
        return opened.get("channel", "shell"), [opened.get(name) for name in names]

    def _part(self, parts: list[Any], number: int) -> dict[str, Any]:
        part = parts[number]
        value = self.session.unpack(part) if isinstance(part, bytes) else part
        return value if isinstance(value, dict) else {}

    # --- to the page ---

    def handle_outgoing_message(self, stream: Any, outgoing_msg: Any) -> None:
        """Hand a kernel's message on, unless the recorder does."""
        recorder = self._recorder
        channel = getattr(stream, "channel", None)
        if recorder is not None and channel == "stdin":
            recorder.asked(self.kernel_id, outgoing_msg)
        told = channel in {"iopub", "stdin"}
        if recorder is not None and told and recorder.attached_by(self):
            _, parts = self.session.feed_identities(outgoing_msg)
            parent = self.session.unpack(parts[2]).get("msg_id")
            if recorder.delivers(str(parent), self):
                return
        super().handle_outgoing_message(stream, outgoing_msg)

    def deliver(self, channel: str, parts: list[Any]) -> None:
        """Hand on a kernel's message."""
        stream = self.channels.get(channel)
        if stream is not None and not stream.closed():
            v1 = self.subprotocol == _V1
            message = parts[1:] if v1 else self.session.deserialize(parts)
            self._on_zmq_reply(stream, message)  # type: ignore[no-untyped-call]

    def tell(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message of ours."""
        if self.subprotocol == _V1:
            whole = serialize_msg_to_ws_v1(message, channel, self.session.pack)  # type: ignore[no-untyped-call]
            self.write_message(whole, binary=True)
        else:
            whole = self._reserialize_reply({**message, "buffers": []}, channel=channel)  # type: ignore[no-untyped-call]
            self.write_message(whole)
