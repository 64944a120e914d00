"""`setup`: an engine on a host that has none, and the way to its GPUs."""

from __future__ import annotations

from jupbox.console import Console
from jupbox.host import gpu as gpu_setup
from jupbox.host import setup as engine_setup
from jupbox.host.ssh import SshMachine
from jupbox.project import Box
from jupbox.site import Surroundings, load_project, machine_of
from jupbox.workflows.found import place
from jupbox.workflows.guard import Consent, ensure_engine_idle


def setup(
    box_name: str | None, *, around: Surroundings, console: Console, gpu: bool, yes: bool,
    consent: Consent,
) -> None:  # fmt: skip
    """Put an engine on a host that has none; with `gpu` one that hands out the host's GPUs."""
    box = load_project(around).box(box_name)
    setup_engine(box, around=around, console=console, gpu=gpu, yes=yes, consent=consent)


def setup_engine(
    box: Box, *, around: Surroundings, console: Console, yes: bool, consent: Consent,
    gpu: bool = False,
) -> None:  # fmt: skip
    """Say what has to be done, ask, and do it; nothing where the engine is ready.

    Raises:
        KernelsBusyError: the engine would restart, and a notebook on it works.
    """
    machine = machine_of(box)
    state = engine_setup.look(machine)
    for_engine = engine_setup.plan_setup(state, clients=machine.is_local)
    for_gpu = (
        gpu_setup.plan_gpu(state, gpu_setup.look(machine, state), name=machine.name) if gpu else ()
    )
    steps = (*for_engine, *for_gpu)
    if not steps:
        console.plain(f"The Docker engine on {place(box)} is ready; nothing to set up.")
        return
    for step in steps:
        console.plain(f"- {step.title}: {step.why}")
    console.confirm(f"Do this on {place(box)}?", yes=yes)
    if state.running and any(step.restarts for step in steps):
        now = around.now
        ensure_engine_idle(machine, where=place(box), consent=consent, console=console, now=now)
    said: list[str] = []
    with console.stage(f"Setting up the engine on {place(box)}") as stage:

        def say(text: str) -> None:
            stage.detail(text)
            said.append(text)

        if for_engine:
            engine_setup.setup(machine, say=say)
        if for_gpu:
            gpu_setup.setup_gpu(machine, say=say)
    titles = tuple(step.title for step in steps)
    for text in said:
        if not text.startswith(titles):
            console.note(text)
    if isinstance(machine, SshMachine):
        # a new group counts from the next login on
        machine.disconnect()
