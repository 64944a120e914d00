"""`status`: how a box is, or every box of the project."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from jupbox import labels as label
from jupbox import pki
from jupbox.console import Console
from jupbox.doctor import near_limit
from jupbox.doctor.finding import size, times
from jupbox.errors import (
    JupboxError,
    LockError,
    ServerError,
)
from jupbox.host import backups, records
from jupbox.host import stack as stacks
from jupbox.host import trust as trust_stores
from jupbox.project import Project
from jupbox.release import locking, sidecars, verifying
from jupbox.site import Surroundings, load_project
from jupbox.workflows.found import Found, control, files_of, find, url_of, user_of

_MOST_PACKAGES: Final = 8
_LEVELS: Final = {"healthy": "ok", "starting": "warning", "stopped": "warning"}


def status(box_name: str | None, *, around: Surroundings, console: Console, as_json: bool) -> int:
    """Show one box, or every box of the project; 0 when all that were asked for are healthy."""
    project = load_project(around)
    names = [box_name] if box_name or len(project.boxes) < 2 else sorted(project.boxes)
    if len(names) == 1 and not as_json:
        found = find(names[0], around=around, console=console)
        _print_status(console, _status(found, around.now()))
        return 0
    reports = [_status_or_error(name, project, around, console) for name in names]
    if as_json:
        console.json(reports[0] if box_name or len(reports) == 1 else reports)
    else:
        for report in reports:
            _print_status(console, report)
    errors = [report["error"] for report in reports if report.get("error")]
    if errors and len(reports) == 1:
        return int(errors[0]["exit_code"])
    return 0


def _status_or_error(
    name: str | None, project: Project, around: Surroundings, console: Console
) -> dict[str, Any]:
    box = project.box(name)
    try:
        return _status(find(name, around=around, console=console), around.now())
    except JupboxError as error:
        return {
            "box": box.name,
            "host": box.host,
            "state": "unknown",
            "error": {
                "exit_code": error.exit_code,
                "message": error.message,
                "remedy": error.remedy,
            },
        }


def _status(found: Found, now: datetime) -> dict[str, Any]:
    site, state = found.site, found.state
    container = state.container
    report: dict[str, Any] = {"box": site.box.name, "host": site.box.host, "stack": site.stack}
    report["backup"] = _backup(found, now)
    if container is None:
        return {**report, "state": "absent", "removed": _removed(found)}
    labels = container.labels
    port = container.published[1] if container.published else None
    public = stacks.public_certificates(site.engine, state)
    report |= {
        "state": container.state,
        "health": container.health if container.running else "stopped",
        "url": url_of(site, port) if port else None,
        "port": port,
        "expose": labels.get(label.EXPOSE),
        "files": files_of(site, labels.get(label.FILES, "volume")),
        "started": _iso(container.started) if container.running else None,
        "uptime_seconds": _seconds(container.started, now) if container.running else None,
        "restarts": container.restarts,
        "container": container.id,
        "image": labels.get(label.IMAGE),
        "lock": labels.get(label.LOCK),
        "bytes": _bytes(found, labels.get(label.LOCK, "")),
        "generation": int(labels.get(label.GENERATION, "0")),
        "beside": {name: each.state for name, each in sidecars.running(site).items()},
        "deployed_by": labels.get(label.WHO),
        "release": {
            "number": int(labels.get(label.GENERATION, "0")),
            "since": labels.get(label.SINCE),
            "who": labels.get(label.WHO),
            "revision": labels.get(label.REVISION),
        },
        "jupbox": labels.get(label.VERSION),
    }
    if public:
        report["certificate"] = {
            "expires": _iso(pki.expires(public.leaf_pem)),
            "fingerprint": pki.fingerprint(public.leaf_pem),
            "names": [*(names := pki.leaf_names(public.leaf_pem)).dns, *names.ips],
            "trusted_here": trust_stores.is_trusted(
                ca_pem=public.authority_pem,
                nickname=pki.authority_name(site.box.name),
                home=site.around.home,
            ),
        }
    if container.running:
        try:
            report["server"] = control(site.engine, container, "summary", user=user_of(found))
        except ServerError as error:
            report["server"] = None
            report["note"] = error.message
    return report


def _removed(found: Found) -> dict[str, Any] | None:
    """What is left where the container went by other hands than ours; None where nothing is.

    `rm` takes the releases along; `docker compose down`, typed on the box, does not.
    """
    site, state = found.site, found.state
    kept = records.records(site.engine, site.stack)
    if not kept:
        return None
    return {
        "releases": [each.number for each in kept],
        "home": state.home_volume in state.volumes,
        "notebooks_in_home": kept[0].notebooks_in_home,
    }


def _backup(found: Found, now: datetime) -> dict[str, Any] | None:
    """The last good backup of the home volume."""
    last = backups.last_backup(found.site.machine, found.site.stack)
    if last is None:
        return None
    return {
        "made": _iso(last.made),
        "age_seconds": _seconds(last.made, now),
        "by": last.who,
        "bytes": last.bytes,
    }


def _bytes(found: Found, digest: str) -> str:
    """Whether the image was found to be what the lock records.

    Returns:
        `verified`; `drifted`: it is another one; `unknown`: nobody measured it, or recorded it;
        `not reproducible`: its definition lets builds differ.
    """
    site = found.site
    images = site.engine.images({label.KIND: "environment", label.LOCK: digest})
    known = next((there for image in images if (there := verifying.known_digest(image))), None)
    try:
        locks = locking.read_lock(site).images.values()
    except LockError:
        return "unknown"
    mine = (lock.only(site.facts.architecture) for lock in locks)
    recorded = next((lock for lock in mine if lock.digest() == digest), None)
    if recorded and not recorded.reproducible:
        return "not reproducible"
    wanted = recorded.recorded(site.facts.architecture) if recorded else None
    if known is None or wanted is None:
        return "unknown"
    return "verified" if known == wanted else "drifted"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _seconds(since: datetime | None, now: datetime) -> int | None:
    return int((now - since).total_seconds()) if since else None


def _print_status(console: Console, report: dict[str, Any]) -> None:
    where = (
        report["box"] if report["box"] == report["host"] else f"{report['box']} ({report['host']})"
    )
    if error := report.get("error"):
        console.state(where, "unknown", "error")
        console.facts([("Problem", error["message"]), ("Remedy", error["remedy"])])
        return
    if report["state"] == "absent":
        if report["removed"]:
            console.state(where, "its container was removed by other hands", "error")
            console.facts(_removed_rows(report["removed"], report["box"]))
        else:
            console.state(where, "no notebook server", "warning")
        if report["backup"]:
            console.facts([_backup_row(report["backup"])])
        return
    health = report["health"] or report["state"]
    console.state(where, health, _LEVELS.get(health, "error"))
    rows = [("URL", report["url"] or "none"), ("Files", report["files"])]
    if report["uptime_seconds"] is not None:
        rows.append(("Up for", _duration(report["uptime_seconds"])))
    rows.append(("Release", _release(report["release"])))
    rows.append(("Image", f"{report['image']} (lock {report['lock'][:12]}, {report['bytes']})"))
    if report["beside"]:
        states = ", ".join(f"{name} {state}" for name, state in sorted(report["beside"].items()))
        rows.append(("Beside it", states))
    if server := report.get("server"):
        busy = f", {server['busy']} busy" if server["kernels"] else ""
        terminals = f", {server['terminals']} terminals" if server["terminals"] else ""
        rows.append(("Kernels", f"{server['kernels']} running{busy}{terminals}"))
        limit = server["memory_limit_bytes"]
        memory = _size(server["memory_bytes"]) + (f" of {_size(limit)}" if limit else "")
        near = ", nearly all" if near_limit(server["memory_bytes"] or 0, limit) else ""
        rows.append(("Memory", f"{memory}{near}{_kills(server)}"))
        rows += _full_rows(server)
        if report["uptime_seconds"]:
            share = server["cpu_usec"] / 1e6 / report["uptime_seconds"]
            rows.append(("CPU", f"{share:.2f} cores on average since the start"))
        rows += _drift_rows(server.get("side") or {})
    elif report.get("note"):
        rows.append(("Server", report["note"]))
    rows.append(_backup_row(report["backup"]))
    if certificate := report.get("certificate"):
        known = "trusted here" if certificate["trusted_here"] else "not trusted here yet"
        rows.append(("Certificate", f"until {certificate['expires'][:10]}, {known}"))
    console.facts(rows)


def _kills(server: dict[str, Any]) -> str:
    """What was ended since the start because the memory was used up."""
    kills = server.get("oom_kills")
    return f"; it was used up {times(kills)}, and a process ended" if kills else ""


def _full_rows(server: dict[str, Any]) -> list[tuple[str, str]]:
    """The disks on which the next notebook may not be saved."""
    return [
        (
            "Disk",
            f"nearly full: {size(disk['free_bytes'])} of {size(disk['total_bytes'])} free "
            f"at {disk['path']}",
        )
        for disk in server.get("disks") or ()
        if disk["nearly_full"]
    ]


def _release(release: dict[str, Any]) -> str:
    since = f", of {release['since'][:16].replace('T', ' ')}" if release["since"] else ""
    who = f", by {release['who']}" if release["who"] else ""
    revision = f", revision {release['revision']}" if release["revision"] else ""
    return f"{release['number']}{since}{who}{revision}"


def _removed_rows(removed: dict[str, Any], box: str) -> list[tuple[str, str]]:
    """What is left, and what brings the rest back."""
    rows = [("Releases", f"{len(removed['releases'])} kept; `jupbox up {box}` runs it again")]
    if removed["home"]:
        return [*rows, ("Home", "the home volume is there")]
    lost = "settings and notebooks" if removed["notebooks_in_home"] else "settings"
    back = f"the home volume ({lost}) is gone; `jupbox restore {box} FILE` brings a backup back"
    return [*rows, ("Home", back)]


def _backup_row(last: dict[str, Any] | None) -> tuple[str, str]:
    if last is None:
        return "Backup", "none yet"
    return "Backup", f"{_duration(max(0, last['age_seconds']))} ago, by {last['by']}"


def _drift_rows(side: dict[str, Any]) -> list[tuple[str, str]]:
    """What was installed beside the image, and what that breaks."""
    rows = []
    for env in side.get("envs", []):
        if env["packages"]:
            names = [_with_version(package) for package in env["packages"]]
            shown = ", ".join(names[:_MOST_PACKAGES])
            more = f" and {len(names) - _MOST_PACKAGES} more" if len(names) > _MOST_PACKAGES else ""
            where = "" if env["env"] == "default" else f" (kernel {env['env']})"
            rows.append(("Drift", f"{shown}{more} beside the image{where}; `jupbox add` keeps it"))
        rows += [("Clash", sentence) for sentence in env["clashes"]]
    for old in side.get("leftover", []):
        rows.append(
            ("Left over", f"{old['packages']} packages of an earlier Python: {old['path']}")
        )
    return rows


def _with_version(package: dict[str, Any]) -> str:
    hidden = package["image"]
    instead = f" (image: {hidden})" if hidden and hidden != package["version"] else ""
    return f"{package['name']} {package['version']}{instead}"


def _duration(seconds: int) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds} s"


def _size(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**20:.0f} MiB"
