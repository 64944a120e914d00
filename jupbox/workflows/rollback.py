"""`rollback`: an earlier release again, with the password and the certificate of now."""

from __future__ import annotations

from jupbox import labels as label
from jupbox.console import Console
from jupbox.errors import RolloutError, UnknownNameError
from jupbox.host import records
from jupbox.host import stack as stacks
from jupbox.host.records import Record
from jupbox.host.signals import uninterrupted
from jupbox.host.stack import State
from jupbox.release import rolling, sealing
from jupbox.site import Site, Surroundings
from jupbox.workflows import rollout
from jupbox.workflows.found import Found, find, place, settled
from jupbox.workflows.guard import Consent, ensure_idle
from jupbox.workflows.turn import turn


def rollback(
    box_name: str | None, *, release: int | None, around: Surroundings, console: Console,
    show: bool, consent: Consent, wait: bool, as_json: bool,
) -> None:  # fmt: skip
    """Bring an earlier release back, or list those that can be.

    Args:
        release: its number; None is the one before the one that runs.
        show: only list them.

    Raises:
        RolloutError: there is none, or it does not serve.
        UnknownNameError: none of that number is kept.
    """
    found = find(box_name, around=around, console=console)
    if show:
        _list(found, console, as_json=as_json)
        return
    site = found.site
    words = () if release is None else (str(release),)
    with turn(site, "rollback", console=console, wait=wait, arguments=words):
        found = settled(site)
        record = _chosen(site, found.state, release)
        ensure_idle(found, verb="rollback", consent=consent, console=console)
        _bring_back(found, record, console)
    console.line(f"Release {record.number} runs on {place(site.box)} again.")
    console.facts(_rows(record))
    console.note(
        f"jupbox.toml and its lock are as they were: `jupbox up{site.command}` rolls forward."
    )


def _bring_back(found: Found, record: Record, console: Console) -> None:
    site, state = found.site, found.state
    image, account = site.engine.image(record.image), state.account
    if image is None or account is None:
        raise RolloutError(
            f"The image of release {record.number} is gone.",
            remedy=f"`jupbox rollback{site.command} --list` names those that are there.",
        )
    with console.stage("Sealing it with the key, certificate and password of now"):
        credentials = sealing.credentials_in_force(site, state)
        sealed = sealing.seal_again(site, state, credentials, image)
    composed = rolling.returned(
        site, state, record, sealed, who=sealing.who(),
        since=site.around.now().isoformat(timespec="seconds"),
    )  # fmt: skip
    rollout.swap(found, sealed, composed, account=account, console=console)
    with uninterrupted():
        rolling.approve(site, stacks.observe(site.engine, site.stack))


def _chosen(site: Site, state: State, number: int | None) -> Record:
    kept = records.records(site.engine, site.stack)
    runs = records.runs_of(state)
    current = next((each for each in kept if each.number == runs), None)
    if number is None:
        origin = current.origin if current else (runs or 0)
        older = [each for each in kept if each.number != runs and each.origin < origin]
        found = max(older, key=lambda each: each.origin, default=None)
    else:
        found = next((each for each in kept if each.number == number), None)
    if found is not None:
        return found
    listed = ", ".join(str(each.number) for each in kept if each.number != runs)
    remedy = f"There are: {listed}." if listed else f"`jupbox up{site.command}` makes releases."
    if number is None:
        raise RolloutError("There is no release before the one that runs.", remedy=remedy)
    raise UnknownNameError(f"No release {number} is kept.", remedy=remedy)


def _list(found: Found, console: Console, *, as_json: bool) -> None:
    site, state = found.site, found.state
    kept = records.records(site.engine, site.stack)
    runs = records.runs_of(state)
    proven = {each.generation for each in state.releases if each.proven}
    told = [
        {
            "release": each.number,
            "of": each.origin,
            "since": each.labels.get(label.SINCE),
            "who": each.labels.get(label.WHO),
            "image": each.labels.get(label.IMAGE),
            "lock": each.labels.get(label.LOCK),
            "revision": each.labels.get(label.REVISION),
            "state": _state(each, state, runs=runs, proven=proven),
        }
        for each in kept
    ]
    if as_json:
        console.json(told)
        return
    if not told:
        console.line(f"No release is kept on {place(site.box)}.")
        return
    header = ("release", "since", "who", "image", "lock", "revision", "state")
    rows = [
        (
            str(each["release"]),
            str(each["since"] or "")[:16].replace("T", " "),
            str(each["who"] or ""),
            str(each["image"] or ""),
            str(each["lock"] or "")[:12],
            str(each["revision"] or "-"),
            str(each["state"]),
        )
        for each in told
    ]
    console.table(header, rows)


def _state(record: Record, state: State, *, runs: int | None, proven: set[int]) -> str:
    """How a release is: `runs`, `stopped`, `kept`, or `never served`; of which it is a return."""
    again = f", release {record.origin} again" if record.origin != record.number else ""
    if record.number == runs and state.container:
        return ("runs" if state.container.running else "stopped") + again
    return ("kept" if record.number in proven else "never served") + again


def _rows(record: Record) -> list[tuple[str, str]]:
    labels = record.labels
    rows = [
        ("Image", f"{labels.get(label.IMAGE, '')} (lock {labels.get(label.LOCK, '')[:12]})"),
        ("From", f"{labels.get(label.SINCE, '')[:16].replace('T', ' ')}, {labels.get(label.WHO)}"),
    ]
    if label.REVISION in labels:
        rows.append(("Revision", labels[label.REVISION]))
    return rows
