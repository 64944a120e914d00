"""What no page shows, written into the notebook.

A page that shows a run saves it itself, and two that write one file are in each other's way. So a
file is written only for runs that no page shows, and what the server has written for a page that
is away is, when that page saves, not another's change: see `Notebooks.as_known`.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from jupyter_core.utils import ensure_async
from tornado import web

from .runs import Recorder, Run

#: Seconds without a page before its runs are written: longer than another page needs to take over.
GRACE = 10.0
#: Seconds between two writes of a file while a run goes on; a reader has as long to show it.
INTERVAL = 10.0


def place(
    notebook: dict[str, Any], runs: Sequence[Run], *, new: Callable[[Run], bool]
) -> list[Run]:
    """Put what runs have printed into their cells.

    Args:
        notebook: nbformat 4; changed in place.
        runs: in the order of their requests.
        new: whether a cell that is not there was made after the notebook was last saved, and
            so is to be added; else it was deleted.

    Returns:
        The runs that now stand in the notebook.
    """
    cells, placed, after = notebook["cells"], [], -1
    for run in runs:
        at = _find(cells, run)
        if at is None and new(run):
            at = after + 1 if after >= 0 else len(cells)
            cells.insert(at, _cell(run, with_id=notebook.get("nbformat_minor", 0) >= 5))
        if at is None:
            continue
        after = at
        cells[at]["outputs"] = run.outputs.as_notebook()
        cells[at]["execution_count"] = run.count
        cells[at].setdefault("metadata", {})["trusted"] = True  # its user has just run it
        placed.append(run)
    return placed


def _find(cells: Sequence[Mapping[str, Any]], run: Run) -> int | None:
    """Where a run's cell stands: by id; in a notebook without ids, by its code."""
    code = [at for at, cell in enumerate(cells) if cell["cell_type"] == "code"]
    found = [at for at in code if cells[at].get("id") == run.cell]
    found += [at for at in code if "id" not in cells[at] and cells[at]["source"] == run.code]
    return found[0] if found else None


def _cell(run: Run, *, with_id: bool) -> dict[str, Any]:
    cell = {"cell_type": "code", "metadata": {}, "source": run.code}
    return {"id": run.cell, **cell} if with_id else cell


@dataclass(frozen=True, kw_only=True)
class _Version:
    """What the API says of a file's state."""

    hash: str | None
    last_modified: Any

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> _Version:
        return cls(hash=model.get("hash"), last_modified=model["last_modified"])

    def holds(self, model: Mapping[str, Any]) -> bool:
        if self.hash and model.get("hash"):
            return bool(self.hash == model["hash"])
        return bool(self.last_modified == model["last_modified"])


class Notebooks:
    """The files of the recorder's runs.

    Args:
        recorder: whose runs are written.
        contents: Jupyter's contents manager.
        sessions: Jupyter's sessions, which know the notebook of a kernel.
        log: where a file that cannot be written is told.
    """

    def __init__(self, *, recorder: Recorder, contents: Any, sessions: Any, log: Any) -> None:
        self._recorder, self._contents, self._sessions = recorder, contents, sessions
        self._log = log
        self._paths: dict[str, list[str]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._quiet_until: dict[str, float] = {}
        self._next_write: dict[str, float] = {}
        self._page_saved: dict[str, float] = {}
        self._known: dict[str, tuple[_Version, _Version]] = {}
        self._failing: set[str] = set()
        self._writing = False
        self._tasks: set[asyncio.Task[None]] = set()
        recorder.on_begin(self._begun)

    # --- where ---

    def _begun(self, run: Run) -> None:
        task = asyncio.ensure_future(self._locate())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _locate(self) -> None:
        """Learn the notebooks of the kernels; that of a kernel which is gone stays known."""
        found: dict[str, list[str]] = {}
        for session in await ensure_async(self._sessions.list_sessions()):
            if session["type"] == "notebook" and session.get("kernel"):
                found.setdefault(session["kernel"]["id"], []).append(session["path"])
        self._paths |= found
        kept = {run.kernel for run in self._recorder.runs()}
        self._paths = {kernel: paths for kernel, paths in self._paths.items() if kernel in kept}

    def _of(self, path: str) -> list[Run]:
        return [run for run in self._recorder.runs() if path in self._paths.get(run.kernel, ())]

    # --- what pages and others do with the files ---

    async def reading(self, path: str) -> None:
        """Somebody is about to read a file: have everything in it.

        It then rests for a while, in which a page that has read it shows what still runs.
        """
        await self._locate()
        for kernel, paths in list(self._paths.items()):
            if path in paths:
                await self._write(kernel)
        self._known.pop(path, None)
        self._quiet_until[path] = time.monotonic() + INTERVAL

    @asynccontextmanager
    async def saving(self, path: str, content: Any) -> AsyncIterator[None]:
        """A page saves a file."""
        states = {run: run.state for run in self._of(path)}
        async with self._locks[path]:
            yield
            self._known.pop(path, None)
        self._page_saved[path] = time.time()
        if not isinstance(content, dict):
            return
        cells = content.get("cells") or ()
        shown = {cell.get("id"): cell.get("execution_count") for cell in cells}
        for run, state in states.items():
            if not run.pending and run.watching and shown.get(run.cell) == run.count:
                run.written = state

    async def renamed(self, old: str, new: str) -> None:
        """A file, or a folder with files in it, has another name.

        Jupyter leaves it to an open page to tell the sessions; with none, the notebook would not
        find its kernel again either.
        """

        def moved(path: str) -> str:
            inside = path == old or path.startswith(f"{old}/")
            return new + path[len(old) :] if inside else path

        self._paths = {kernel: [*map(moved, paths)] for kernel, paths in self._paths.items()}
        for session in await ensure_async(self._sessions.list_sessions()):
            path = moved(session["path"])
            if path != session["path"]:
                names = {"path": path, "name": path.rpartition("/")[2]}
                await ensure_async(self._sessions.update_session(session["id"], **names))

    def deleted(self, path: str) -> None:
        """A file is gone because its user said so."""
        for run in self._of(path):
            run.written = run.state

    def as_known(self, path: str, model: dict[str, Any]) -> dict[str, Any]:
        """A file's state as a page may know it: what the server alone wrote since is no change.

        Only until somebody reads the file: from then on there may be another page.
        """
        before, ours = self._known.get(path, (None, None))
        if before is None or ours is None or not ours.holds(model):
            return model
        known = {**model, "last_modified": before.last_modified}
        return known | ({"hash": before.hash} if model.get("hash") else {})

    # --- writing ---

    async def tick(self) -> None:
        """Write what is due; to be called every second or so."""
        now = time.monotonic()
        due = {run.kernel for run in self._lacking() if now - (run.unwatched or now) >= GRACE}
        if due and not self._writing:
            self._writing = True
            try:
                await self._locate()
                for kernel in due:
                    if not self._resting(kernel, now):
                        await self._write(kernel)
            finally:
                self._writing = False

    async def close(self) -> None:
        """Write everything that no page shows."""
        for kernel in {run.kernel for run in self._lacking()}:
            await self._write(kernel)

    def _lacking(self) -> Iterable[Run]:
        return (run for run in self._recorder.runs() if run.unsaved and not run.watching)

    def _resting(self, kernel: str, now: float) -> bool:
        goes_on = self._recorder.pending(kernel) > 0
        return any(
            now < self._quiet_until.get(path, 0)
            or (now < self._next_write.get(path, 0) and (goes_on or path in self._failing))
            for path in self._paths.get(kernel, ())
        )

    async def _write(self, kernel: str) -> None:
        """Write a kernel's runs into its notebooks, each into the first that has its cell."""
        paths = self._paths.get(kernel, [])
        for last, path in ((path == paths[-1], path) for path in list(paths)):
            runs = [run for run in self._lacking() if run.kernel == kernel]
            if not runs:
                return
            begun = time.monotonic()
            try:
                async with self._locks[path]:
                    await self._write_into(path, runs, last=last)
                self._failing.discard(path)
            except (OSError, web.HTTPError, ValueError, KeyError) as error:
                if path not in self._failing:
                    self._failing.add(path)
                    self._log.warning("What ran in %s is not in it yet: %s", path, error)
            now = time.monotonic()
            # a notebook of many megabytes takes its time, and the server can do nothing else
            self._next_write[path] = now + max(INTERVAL, 10 * (now - begun))

    async def _write_into(self, path: str, runs: list[Run], *, last: bool) -> None:
        model = await self._get(path, content=True)
        saved = self._page_saved.get(path, 0.0)
        states = {run: run.state for run in runs}
        notebook = model["content"]
        placed = place(notebook, runs, new=lambda run: last and run.begun > saved)
        if placed:
            before = await self._get(path, content=False)
            model = {"type": "notebook", "format": "json", "content": notebook}
            await ensure_async(self._contents.save(model, path))
            self._note(path, _Version.of(before), _Version.of(await self._get(path, content=False)))
            self._log.info("Saved what ran in %s with no page open.", path)
        for run in runs:
            if run in placed or last:
                run.written = states[run]

    def _note(self, path: str, before: _Version, ours: _Version) -> None:
        known = self._known.get(path)
        same = known is not None and known[1] == before
        self._known[path] = (known[0] if known and same else before, ours)

    async def _get(self, path: str, *, content: bool) -> dict[str, Any]:
        options = {"path": path, "type": "notebook", "content": content}
        try:
            found = await ensure_async(self._contents.get(**options, require_hash=not content))
        except TypeError:  # a contents manager that knows no hashes
            found = await ensure_async(self._contents.get(**options))
        return dict(found)
