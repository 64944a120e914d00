"""The runs of cells, written down by the server, whoever looks.

JupyterLab keeps a cell's output in the page alone: what a kernel prints while no page is there
is gone. Here the server listens to every kernel as well. A page that shows a run is left to save
it, as ever; what no page shows, `notebooks` writes into the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from jupyter_client.session import Session

from .outputs import SHOWN, Outputs

#: How many runs of a kernel are kept that are saved.
KEPT = 50
#: How many that are not: an editor may run the cells of a notebook that lies elsewhere.
KEPT_UNSAVED = 5000

#: Seconds in which a dead connection may go unnoticed.
UNNOTICED = 120.0

# besides what is shown
_OF_A_RUN = frozenset({"execute_input", "status"})


class Page(Protocol):
    """A page's connection to a kernel."""

    @property
    def session_id(self) -> str:
        """What the page calls itself; a page that reconnects keeps it."""

    def deliver(self, channel: str, parts: list[Any]) -> None:
        """Hand on a kernel's message: signature, header, parent's header, metadata, content."""

    def tell(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message of ours."""


@dataclass(eq=False, kw_only=True)
class Run:
    """One run of one cell.

    Attributes:
        id: of the request, which every message of the run names as its parent.
        header: of the request.
        cell: the cell's id.
        code: what runs.
        page: the session that asked for it.
        begun: when, `time.time()`.
        count: the number in brackets; None until it has begun.
        status: of the reply: ok, error or aborted; None while it is pending.
        watching: the connections whose page shows it.
        attached: those of them that get its messages from here: they did not ask for the run, or
            lost their connection meanwhile.
        returning: connections that come up again and are about to be attached.
        ended: when, `time.monotonic()`; None while it is pending.
        unwatched: since when no page shows it, `time.monotonic()`; None while one does.
        asked: the kernel's question that waits for an answer, as it came.
        written: the state that is in the file; -1 before any.
        process: how the kernel's messages about it name the process.
    """

    id: str
    header: dict[str, Any]
    kernel: str
    cell: str
    code: str
    page: str
    begun: float = field(default_factory=time.time)
    count: int | None = None
    status: str | None = None
    outputs: Outputs = field(default_factory=Outputs)
    watching: set[Page] = field(default_factory=set)
    attached: set[Page] = field(default_factory=set)
    returning: set[Page] = field(default_factory=set)
    ended: float | None = None
    unwatched: float | None = None
    asked: list[Any] | None = None
    written: int = -1
    process: str = ""

    @property
    def pending(self) -> bool:
        """Whether it waits or works."""
        return self.status is None

    @property
    def state(self) -> int:
        """A number that changes with whatever a file would show of it."""
        return 4 * self.outputs.version + 2 * (self.count is not None) + (not self.pending)

    @property
    def unsaved(self) -> bool:
        """Whether the file lacks something of it."""
        return self.count is not None and self.state != self.written

    def leave(self, page: Page) -> None:
        """A page is gone."""
        self.attached.discard(page)
        self.returning.discard(page)
        if page in self.watching:
            self.watching.discard(page)
            self.unwatched = None if self.watching else time.monotonic()

    def join(self, page: Page) -> None:
        """A page shows it."""
        self.watching.add(page)
        self.unwatched = None


@dataclass(eq=False, kw_only=True)
class _Watch:
    """A kernel that is listened to."""

    stream: Any
    session: Session
    process: str = ""  # how its last message named the process


class Recorder:
    """Listens to the kernels and keeps the runs until they are saved."""

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}
        self._runs: dict[str, Run] = {}
        self._questions: dict[str, list[Any]] = {}
        self._begun: list[Callable[[Run], None]] = []
        self._left: dict[str, float] = {}

    def on_begin(self, call: Callable[[Run], None]) -> None:
        """Have something called with each new run."""
        self._begun.append(call)

    def runs(self, kernel: str | None = None) -> list[Run]:
        """Those that are kept, in the order of their requests."""
        return [run for run in self._runs.values() if kernel in (None, run.kernel)]

    def pending(self, kernel: str) -> int:
        """How many runs of a kernel wait or work."""
        return sum(run.pending for run in self.runs(kernel))

    def _forget(self, kernel: str) -> None:
        """Forget the oldest of the runs that are saved, and of those that nothing ever saves.

        Not at once: a thread may print when its cell is done, even after hours.
        """
        ended = [run for run in self.runs(kernel) if not run.pending]
        saved = [run for run in ended if not run.unsaved]
        for run in {*saved[:-KEPT], *ended[:-KEPT_UNSAVED]}:
            del self._runs[run.id]

    # --- kernels ---

    def watch(self, kernel: str, manager: Any) -> None:
        """Listen to a kernel."""
        self._close(kernel)
        session = Session(config=manager.session.config, key=manager.session.key)
        watch = _Watch(stream=manager.connect_iopub(), session=session)
        self._watches[kernel] = watch
        watch.stream.on_recv(lambda parts: self._heard(kernel, watch, parts))

    def unwatch(self, kernel: str) -> None:
        """The kernel is gone, and with it what it would have printed."""
        self._close(kernel)
        self.died(kernel)
        for stream in self._questions.pop(kernel, []):
            _close(stream)

    def _close(self, kernel: str) -> None:
        watch = self._watches.pop(kernel, None)
        if watch is not None:
            _close(watch.stream)

    def died(self, kernel: str) -> None:
        """The process of a kernel is gone or about to go, and what it had still to do with it."""
        for run in self.runs(kernel):
            if run.pending:
                self._end(run, "aborted")

    # --- what kernels say ---

    def _heard(self, kernel: str, watch: _Watch, parts: list[Any]) -> None:
        _, parts = watch.session.feed_identities(parts)
        header = watch.session.unpack(parts[1])
        parent = watch.session.unpack(parts[2])
        watch.process = str(header.get("session"))
        run = self._runs.get(str(parent.get("msg_id")))
        kind = header["msg_type"]
        if run is not None:
            run.process = watch.process
            for page in list(run.attached):
                page.deliver("iopub", parts)
        if kind == "update_display_data":
            self._update(kernel, watch.session.unpack(parts[4]))
        elif run is not None and (kind in SHOWN or (run.pending and kind in _OF_A_RUN)):
            # a thread may print when the cell itself is done
            self._take(run, kind, watch.session.unpack(parts[4]))

    def _take(self, run: Run, kind: str, content: dict[str, Any]) -> None:
        if kind == "execute_input":
            self._end_earlier(run)
            run.count = content.get("execution_count")
        elif kind == "status":
            if content.get("execution_state") == "idle":
                failed = "error" if run.outputs.failed else "ok"
                self._end(run, "aborted" if run.count is None else failed)
        else:
            run.outputs.take(kind, content)

    def _end_earlier(self, run: Run) -> None:
        """What began before another did has ended, heard or not."""
        for earlier in self.runs(run.kernel):
            if earlier is run:
                return
            if earlier.pending and earlier.count is not None:
                self._end(earlier, "ok")

    def _update(self, kernel: str, content: dict[str, Any]) -> None:
        """Change a display wherever it stands: a cell may update an earlier one's."""
        for run in self.runs(kernel):
            run.outputs.update(content)

    def _end(self, run: Run, status: str) -> None:
        run.status, run.asked, run.ended = status, None, time.monotonic()
        for page in list(run.attached):
            self._reply(run, page)
        if run.count is None:  # never began: there is nothing to save
            self._runs.pop(run.id, None)
        if not self.pending(run.kernel):
            for stream in self._questions.pop(run.kernel, []):
                _close(stream)

    # --- what pages ask for ---

    def begin(self, run: Run, page: Page) -> None:
        """A page asks a kernel to run a cell."""
        for earlier in self.runs(run.kernel):
            if earlier.cell == run.cell and not earlier.pending:
                del self._runs[earlier.id]  # the new outputs take the place of its own
        self._forget(run.kernel)
        self._runs[run.id] = run
        run.join(page)
        for call in self._begun:
            call(run)

    def returns(self, kernel: str, page: Page) -> None:
        """A page comes up again: what it may have missed of its runs it gets from here alone.

        What went into a connection that was dead already is in nobody's buffer, nor is the end
        of a run that ended before anybody saw that.
        """
        since = self._left.pop(page.session_id, time.monotonic()) - UNNOTICED
        for run in [each for each in self.runs(kernel) if each.page == page.session_id]:
            run.join(page)
            if run.ended is None or run.ended >= since:
                run.attached = {p for p in run.attached if p.session_id != page.session_id}
                run.returning.add(page)

    def returned(self, kernel: str, page: Page) -> None:
        """A page is connected again; it is told its runs from their first lines on."""
        for run in self.runs(kernel):
            if page in run.returning:
                run.returning.discard(page)
                self._tell(run, page)

    def disconnected(self, kernel: str, page: Page) -> None:
        """A page is gone."""
        self._left[page.session_id] = time.monotonic()
        for run in self.runs(kernel):
            run.leave(page)

    def attach(self, kernel: str, page: Page, header: dict[str, Any]) -> None:
        """Show a page a run that it did not ask for, from its first line on.

        Args:
            kernel: whose run it is.
            page: the connection.
            header: as the page made it, with the run's id.
        """
        run = self._runs.get(str(header.get("msg_id")))
        if run is None or run.kernel != kernel:
            say = self._voice(kernel, page, header)
            say("execute_reply", {"status": "aborted"})
            say("status", {"execution_state": "idle"})
            return
        run.join(page)
        run.page = page.session_id
        self._tell(run, page)

    def _tell(self, run: Run, page: Page) -> None:
        """Tell a page a run, from its first line to its end, or to where it is."""
        self._show(run, page)
        if run.pending:
            run.attached.add(page)
        else:
            self._voice(run.kernel, page, run.header)("status", {"execution_state": "idle"})
            self._reply(run, page)

    def _show(self, run: Run, page: Page) -> None:
        say = self._voice(run.kernel, page, run.header)
        say("status", {"execution_state": "busy"})
        if run.count is not None:
            say("clear_output", {"wait": False})
            say("execute_input", {"code": run.code, "execution_count": run.count})
            for kind, content in run.outputs.as_messages():
                say(kind, content)
        if run.asked is not None:
            page.deliver("stdin", run.asked)

    def _reply(self, run: Run, page: Page) -> None:
        content: dict[str, Any] = {
            "status": run.status,
            "execution_count": run.count,
            "user_expressions": {},
        }
        if run.status == "error":
            content |= run.outputs.failed or {}
        self._voice(run.kernel, page, run.header)("execute_reply", content)

    def _voice(
        self, kernel: str, page: Page, parent: dict[str, Any]
    ) -> Callable[[str, dict[str, Any]], None]:
        """What tells a page something as the kernel would, in answer to `parent`."""
        watch, run = self._watches.get(kernel), self._runs.get(str(parent.get("msg_id")))
        process = (run and run.process) or (watch and watch.process)

        def say(kind: str, content: dict[str, Any]) -> None:
            message = Session().msg(kind, content)
            message["parent_header"] = parent
            # JupyterLab drops what does not come from the process that it talks to
            if process:
                message["header"]["session"] = process
            page.tell("shell" if kind == "execute_reply" else "iopub", message)

        return say

    def attached_by(self, page: Page) -> bool:
        """Whether a page gets messages of any run from here."""
        return any(page in run.attached | run.returning for run in self._runs.values())

    def delivers(self, run: str, page: Page) -> bool:
        """Whether a page gets the messages of that run from here."""
        found = self._runs.get(run)
        return found is not None and page in found.attached | found.returning

    # --- questions of the kernel ---

    def adopt(self, kernel: str, page: str, stream: Any, missed: list[list[Any]]) -> bool:
        """Take over the line on which a kernel asks a page that is gone.

        Args:
            kernel: whose line it is.
            page: the session that it belongs to.
            stream: the line.
            missed: what came on it already.

        Returns:
            Whether a run of that page still needs it; if not, it is the caller's to close.
        """
        if not any(run.pending and run.page == page for run in self.runs(kernel)):
            return False
        self._questions.setdefault(kernel, []).append(stream)
        stream.on_recv(lambda parts: self.asked(kernel, parts))
        for parts in missed:
            self.asked(kernel, parts)
        return True

    def asked(self, kernel: str, parts: list[Any]) -> None:
        """A kernel asks something: whoever comes while there is no answer is asked as well."""
        watch = self._watches.get(kernel)
        if watch is None:
            return
        _, parts = watch.session.feed_identities(parts)
        run = self._runs.get(str(watch.session.unpack(parts[2]).get("msg_id")))
        if run is None or not run.pending:
            return
        run.asked = parts
        for page in list(run.attached):
            page.deliver("stdin", run.asked)

    def answered(self, kernel: str) -> None:
        """Somebody answers the kernel's question."""
        for run in self.runs(kernel):
            run.asked = None


def _close(stream: Any) -> None:
    if not stream.closed():
        stream.on_recv(None)
        stream.close()
