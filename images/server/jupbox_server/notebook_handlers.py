"""Jupyter's files, with what runs without a page in them; and the list of those runs."""

from __future__ import annotations

import json
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.services.contents.handlers import ContentsHandler, default_handlers
from tornado import web

from .notebooks import Notebooks
from .runs import Recorder


class NotebooksHandler(ContentsHandler):
    """`/api/contents/…`."""

    auth_resource = "contents"

    def initialize(self, notebooks: Notebooks) -> None:
        """Take the server's notebooks."""
        self._notebooks = notebooks

    @staticmethod
    def _name(path: str) -> str:
        return path.strip("/")

    def _finish_model(self, model: dict[str, Any], location: bool = True) -> None:
        if self.request.method == "GET" and model.get("content") is None:
            model = self._notebooks.as_known(self._name(model["path"]), model)
        super()._finish_model(model, location)  # type: ignore[no-untyped-call]

    @web.authenticated
    @authorized
    async def get(self, path: str = "") -> None:
        """Read, with what ran meanwhile."""
        if self.get_query_argument("content", "1") == "1":
            await self._notebooks.reading(self._name(path))
        await super().get(path)  # type: ignore[misc]

    @web.authenticated
    @authorized
    async def put(self, path: str = "") -> None:
        """Save."""
        content = (self.get_json_body() or {}).get("content")
        async with self._notebooks.saving(self._name(path), content):
            await super().put(path)  # type: ignore[misc]

    @web.authenticated
    @authorized
    async def patch(self, path: str = "") -> None:
        """Rename."""
        new = (self.get_json_body() or {}).get("path")
        await super().patch(path)  # type: ignore[misc]
        if isinstance(new, str):
            await self._notebooks.renamed(self._name(path), self._name(new))

    @web.authenticated
    @authorized
    async def delete(self, path: str = "") -> None:
        """Delete."""
        await super().delete(path)  # type: ignore[misc]
        self._notebooks.deleted(self._name(path))


class RunsHandler(APIHandler):
    """GET `/jupbox/runs?kernel=ID&session=ID`: what a page of that session may have missed."""

    auth_resource = "kernels"

    def initialize(self, recorder: Recorder) -> None:
        """Take the server's recorder."""
        self._recorder = recorder

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """List the runs that a page does not show and that no file has in full.

        `watched` are those that another page shows.
        """
        session = self.get_query_argument("session")
        found = [
            {"id": run.id, "cell": run.cell, "code": run.code, "watched": bool(run.watching)}
            for run in self._recorder.runs(self.get_query_argument("kernel"))
            if (run.pending or run.unsaved)
            and session not in {page.session_id for page in run.watching}
        ]
        self.finish(json.dumps(found))


def notebook_handlers(recorder: Recorder, notebooks: Notebooks) -> list[tuple[Any, ...]]:
    """The routes: Jupyter's own for files, in their order, and ours."""
    ours = (NotebooksHandler, {"notebooks": notebooks})
    files = [
        (route, *ours) if handler is ContentsHandler else (route, handler)
        for route, handler in default_handlers
    ]
    return [*files, (r"/jupbox/runs", RunsHandler, {"recorder": recorder})]
