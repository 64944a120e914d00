"""What cells print while no page is open is kept: the parts of it, on or off together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tornado.ioloop import PeriodicCallback

from .kernels import RecordingConnection, RecordingKernelManager
from .notebook_handlers import notebook_handlers
from .notebooks import Notebooks

#: Set to 0 in the container's environment, it switches it off.
SWITCH = "JUPBOX_KEEP_OUTPUT"

#: Where JupyterLab finds its part.
LAB_EXTENSIONS = Path(__file__).parent / "lab"

__all__ = ["LAB_EXTENSIONS", "SWITCH", "Keeping", "RecordingConnection", "RecordingKernelManager"]

_EVERY = 1000  # milliseconds


def wanted(environ: Mapping[str, str] | None = None) -> bool:
    """Whether it is on."""
    return (os.environ if environ is None else environ).get(SWITCH) != "0"


class Keeping:
    """It, in a running server.

    Args:
        app: Jupyter's, with kernels that are RecordingKernelManager's.
    """

    def __init__(self, app: Any) -> None:
        recorder = app.kernel_manager.recorder
        self._notebooks = Notebooks(
            recorder=recorder,
            contents=app.contents_manager,
            sessions=app.session_manager,
            log=app.log,
        )
        app.web_app.add_handlers(".*$", notebook_handlers(recorder, self._notebooks))
        self._ticks = PeriodicCallback(self._notebooks.tick, _EVERY)

        #: How many runs of a kernel's cells wait or work.
        self.pending = recorder.pending

    def start(self) -> None:
        """Write what is due, from now on."""
        self._ticks.start()

    async def close(self) -> None:
        """Write all that is left to be written."""
        self._ticks.stop()
        await self._notebooks.close()
