"""The verbs: argv to one workflow call to an exit code; the one place that catches errors."""

from __future__ import annotations

import signal
import sys
import traceback
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from jupbox.console import Console, show_what_can_be_shown
from jupbox.errors import JupboxError

INTERRUPTED = 130

app = typer.Typer(
    name="jupbox",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A Jupyter server with TLS and a password on any machine you can ssh to.\n\n"
    "[b]jupbox up workbox[/b] puts it there, [b]jupbox open workbox[/b] brings it to your browser.",
    epilog="Examples:  jupbox up workbox, jupbox open workbox, jupbox doctor",
)

_EVERY_DAY = "Every day"
_ONCE = "Once in a while"

BoxName = Annotated[
    str | None,
    typer.Argument(
        metavar="[BOX]",
        help="A box of jupbox.toml, or without one an ssh destination; `local` is this machine. "
        "May be left out when there is only one.",
        show_default=False,
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of builds.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial", help="With --from a repository: go on without what cannot be honoured."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on though kernels or terminals are busy: they end.")
]
WhenIdle = Annotated[
    bool, typer.Option("--when-idle", help="Wait until no kernel and no terminal is busy.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for another change of the box to end, not fail.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer every question with yes.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"jupbox {version('jupbox')}\n")
        raise typer.Exit


@app.callback()
def _main(
    shown: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def _run(verb: str, *, debug: bool, verbose: bool = False, **given: Any) -> None:
    """Call the workflow of that name; an error becomes two lines and its exit code.

    Imported here: `--help` needs none of them.
    """
    from jupbox.site import Surroundings  # noqa: PLC0415

    console = Console(verbose=verbose)
    _catch_the_end()
    try:
        workflow = getattr(import_module(f"jupbox.workflows.{verb}"), verb)
        code = workflow(around=Surroundings(), console=console, **given)
    except KeyboardInterrupt:
        console.interrupted()
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise  # `jupbox status | head`: nobody reads on
    except Exception as error:
        if debug:
            traceback.print_exc()
        known = error if isinstance(error, JupboxError) else _unexpected(error)
        console.error(known)
        raise typer.Exit(known.exit_code) from None
    raise typer.Exit(code or 0)


def _consent(force: bool, when_idle: bool) -> Any:
    """What the command line says of kernels that would be ended."""
    from jupbox.workflows.guard import Consent  # noqa: PLC0415

    return Consent(force=force, when_idle=when_idle)


def _catch_the_end() -> None:
    """Let Ctrl-C, a closed terminal and a `kill` leave nothing half done behind.

    Temporary files hold credentials, and a container of ours is nobody else's to remove: an
    impatient second Ctrl-C must not cut that work short.
    """
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ours = [number for number in ends if signal.getsignal(number) is not signal.SIG_IGN]

    def end(_number: int, _frame: object) -> None:
        for number in ours:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in ours:  # nohup ignores SIGHUP
        signal.signal(number, end)


def _unexpected(error: Exception) -> JupboxError:
    """Two lines for what nobody foresaw; without its own words, which may hold a secret."""
    what = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    return JupboxError(
        f"jupbox stumbled over something that it does not know: {what}.",
        remedy="Run it again with --debug, and please report what that shows.",
    )


class _Exec(TyperCommand):
    """What follows `--` at once stands for no box: click would swallow the word that says so."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = next((n for n, arg in enumerate(args) if arg[:1] != "-" or arg == "--"), None)
        if options is not None and args[options] == "--":
            args.insert(options, "--")
        return super().parse_args(ctx, args)


@app.command(rich_help_panel=_EVERY_DAY)
def up(
    box: BoxName = None,
    *,
    setup: Annotated[
        bool, typer.Option("--setup", help="Install a Docker engine first where there is none.")
    ] = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Move to this jupbox's own server files too.")
    ] = False,
    push: Annotated[
        bool, typer.Option("--push", help="Push the environment image to its `registry`.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only say what would be done and why; exit code 2 if that is anything.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --dry-run: write the Dockerfiles with contexts and the compose file.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    locked: Annotated[
        bool,
        typer.Option("--locked", help="Fail if jupbox.lock is missing or stale, as for CI."),
    ] = False,
    allow_drift: Annotated[
        bool,
        typer.Option("--allow-drift", help="Take an image that is not the one of the lock."),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PATH|URL[@REV]",
            help="Run a repository as it stands: its Binder files, its own folder among the "
            "notebooks. A folder, or what `git clone` takes.",
            show_default=False,
        ),
    ] = None,
    partial: Partial = False,
    when_idle: WhenIdle = False,
    force: Force = False,
    wait: Wait = False,
    yes: Yes = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make it so: lock, build, seal, deploy; does nothing where nothing changed.

    [b]jupbox up workbox[/b]
    """
    if out is not None and not dry_run:
        raise typer.BadParameter("--out goes with --dry-run.")
    if partial and source is None:
        raise typer.BadParameter("--partial goes with --from.")
    if push and dry_run:
        raise typer.BadParameter("--push does not go with --dry-run.")
    _run("up", box_name=box, setup=setup, upgrade=upgrade, push=push, dry_run=dry_run, out=out,
         yes=yes, locked=locked, allow_drift=allow_drift, source=source, partial=partial,
         consent=_consent(force, when_idle), wait=wait, verbose=verbose, debug=debug)  # fmt: skip


@app.command("open", rich_help_panel=_EVERY_DAY)
def open_(
    box: BoxName = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only forward the port.")
    ] = False,
    url: Annotated[
        bool, typer.Option("--url", help="Print a link that logs another client in, once.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Open the notebook in the browser, logged in; tunnels until Ctrl-C.

    [b]jupbox open workbox[/b]
    """
    _run("open_box", box_name=box, browser=not no_browser, print_url=url, debug=debug)


@app.command(rich_help_panel=_EVERY_DAY)
def status(
    box: BoxName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show how a box is, or every box of the project.

    [b]jupbox status workbox --json[/b]
    """
    _run("status", box_name=box, as_json=as_json, debug=debug)


@app.command(rich_help_panel=_EVERY_DAY)
def add(
    packages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PACKAGE...",
            help="Python requirements: `polars`, `'pandas>=2'`.",
            show_default=False,
        ),
    ] = None,
    *,
    apt: Annotated[
        list[str] | None, typer.Option("--apt", metavar="NAME", help="A Debian package, too.")
    ] = None,
    kernel: Annotated[
        str | None, typer.Option("--kernel", metavar="NAME", help="Into that kernel's environment.")
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="BOX", help="The box; the only one by default.")
    ] = None,
    wait: Wait = False,
    debug: Debug = False,
) -> None:
    """Add packages to the running server, the definition and the lock.

    [b]jupbox add polars --apt graphviz[/b]
    """
    if not packages and not apt:
        raise typer.BadParameter("Name a package, or --apt NAME.")
    _run("add", packages=packages or [], apt=apt or [], kernel=kernel, on=on, wait=wait,
         debug=debug)  # fmt: skip


@app.command(
    "exec",
    cls=_Exec,
    rich_help_panel=_EVERY_DAY,
    # all options after the box are the command's
    context_settings={"allow_interspersed_args": False},
)
def exec_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BOX] [--] [COMMAND]...",
            help="The box, which may be left out before `--`, and the command; a shell without.",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Run a command where the notebooks are, or a shell.

    Terminal, signals, standard input and exit code are as with ssh.

    [b]jupbox exec workbox[/b], [b]jupbox exec workbox python train.py[/b],
    [b]jupbox exec -- nproc[/b]
    """
    first, *command = words or ["--"]
    box = None if first == "--" else first
    if box is not None and command[:1] == ["--"]:
        del command[0]
    _run("execute", box_name=box, command=command, debug=debug)


@app.command(rich_help_panel=_EVERY_DAY)
def logs(
    box: BoxName = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    since: Annotated[
        str | None, typer.Option(help="Only what is younger: `10m`, `2h`, or a time.")
    ] = None,
    tail: Annotated[str, typer.Option(help="Only that many last lines.")] = "all",
    audit: Annotated[
        bool, typer.Option("--audit", help="Who changed the box, when, and how it ended.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --audit: print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show the server's log, or with --audit every change of the box.

    [b]jupbox logs workbox -f --since 10m[/b], [b]jupbox logs workbox --audit[/b]
    """
    if follow and audit:
        raise typer.BadParameter("--follow does not go with --audit.")
    if as_json and not audit:
        raise typer.BadParameter("--json goes with --audit.")
    if audit:
        _refuse_unreadable(since, tail)
    _run("logs", box_name=box, follow=follow, since=since, tail=tail, changes=audit,
         as_json=as_json, debug=debug)  # fmt: skip


def _refuse_unreadable(since: str | None, tail: str) -> None:
    """Where docker does not read these two words, we do."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from jupbox.audit import since_when  # noqa: PLC0415

    if tail != "all" and not tail.isdigit():
        raise typer.BadParameter("--tail is a number, or `all`.")
    try:
        since_when(since or "0s", now=datetime.now(UTC))
    except (ValueError, OverflowError):
        raise typer.BadParameter("--since is such as 10m, 2h, 3d, or a time.") from None


@app.command(rich_help_panel=_EVERY_DAY)
def down(
    box: BoxName = None,
    when_idle: WhenIdle = False,
    force: Force = False,
    wait: Wait = False,
    debug: Debug = False,
) -> None:
    """Stop the server; everything is kept.

    [b]jupbox down workbox[/b]
    """
    _run("down", box_name=box, consent=_consent(force, when_idle), wait=wait,
         debug=debug)  # fmt: skip


@app.command(rich_help_panel=_ONCE)
def rollback(
    box: BoxName = None,
    release: Annotated[
        int | None,
        typer.Argument(
            metavar="[RELEASE]",
            help="Its number; the one before the one that runs by default.",
            show_default=False,
        ),
    ] = None,
    *,
    show: Annotated[bool, typer.Option("--list", help="Only list the releases.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: print JSON.")] = False,
    when_idle: WhenIdle = False,
    force: Force = False,
    wait: Wait = False,
    debug: Debug = False,
) -> None:
    """Bring an earlier release back, with the password and certificate of now.

    [b]jupbox rollback workbox[/b]
    """
    _run("rollback", box_name=box, release=release, show=show, as_json=as_json,
         consent=_consent(force, when_idle), wait=wait, debug=debug)  # fmt: skip


@app.command(rich_help_panel=_ONCE)
def init(
    box: Annotated[
        str | None,
        typer.Argument(
            metavar="[BOX]",
            help="The new box: an ssh destination, `local` for this machine, or with --host a "
            "name. Without it the hosts of your ssh configuration are offered.",
            show_default=False,
        ),
    ] = None,
    *,
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Its ssh destination, or `local`.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="What ships and is to be added to; else `minimal`."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="BOX|PATH|URL[@REV]",
            help="Read back, with its lock, what runs on a box already; or take a repository's "
            "Binder files: a folder (that is there, or with a / in front or as ./NAME), or what "
            "`git clone` takes.",
            show_default=False,
        ),
    ] = None,
    partial: Partial = False,
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """Write a commented jupbox.toml into this folder; asks only what it cannot find out.

    [b]jupbox init workbox[/b]
    """
    if partial and source is None:
        raise typer.BadParameter("--partial goes with --from.")
    _run("init", word=box, host=host, image=image, source=source, partial=partial, yes=yes,
         debug=debug)  # fmt: skip


@app.command(rich_help_panel=_ONCE)
def password(
    box: BoxName = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read it from standard input, one line.")
    ] = False,
    generate: Annotated[bool, typer.Option("--generate", help="Make one and show it.")] = False,
    wait: Wait = False,
    debug: Debug = False,
) -> None:
    """Set another password; it holds at once, with no kernel lost.

    [b]jupbox password workbox[/b]
    """
    _run("password", box_name=box, stdin=stdin, generate=generate, wait=wait, debug=debug)


@app.command(rich_help_panel=_ONCE)
def trust(
    box: BoxName = None,
    print_only: Annotated[
        bool, typer.Option("--print", help="Write the CA certificate out and change nothing.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Have this machine's browsers trust the box's certificate.

    [b]jupbox trust workbox[/b]
    """
    _run("trust", box_name=box, print_only=print_only, debug=debug)


@app.command(rich_help_panel=_ONCE)
def doctor(
    box: BoxName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Look for what is wrong, here, on the box and with its server; say what to do.

    Nothing is changed. Exit code 0, with warnings 1, with errors 2.

    [b]jupbox doctor workbox[/b]
    """
    _run("doctor", box_name=box, as_json=as_json, debug=debug)


@app.command(rich_help_panel=_ONCE)
def setup(
    box: BoxName = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="NVIDIA's container toolkit as well, for `gpus`.")
    ] = False,
    *,
    when_idle: WhenIdle = False,
    force: Force = False,
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """Install a Docker engine on a host that has none (Debian, Ubuntu).

    [b]jupbox setup workbox[/b]
    """
    _run("setup", box_name=box, gpu=gpu, yes=yes, consent=_consent(force, when_idle), debug=debug)


@app.command(rich_help_panel=_ONCE)
def lock(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Images, all by default; with --upgrade also what shall move: packages, or "
            "`base`, `apt`, `python`, `uv`.",
        ),
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Move to the newest versions: all, or the named.")
    ] = False,
    diff: Annotated[
        str | None,
        typer.Option(
            "--diff", metavar="REV", help="Only show what changed since that git revision."
        ),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="BOX", help="The box whose engine is asked.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Resolve image definitions into jupbox.lock, moving only what must.

    [b]jupbox lock datasci --upgrade pandas[/b]
    """
    _run("lock", names=images or [], upgrade=upgrade, diff=diff, on=on, debug=debug)


@app.command(rich_help_panel=_ONCE)
def verify(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[IMAGE|BOX]", help="An image, or a box; the only box by default."),
    ] = None,
    *,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build it from nothing too, and compare all files.")
    ] = False,
    on: Annotated[
        str | None, typer.Option("--on", metavar="BOX", help="The box whose engine has the image.")
    ] = None,
    wait: Wait = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Prove that an image is, to the byte, what jupbox.lock says.

    [b]jupbox verify datasci --rebuild[/b]
    """
    _run("verify", target=target, rebuild=rebuild, on=on, wait=wait, verbose=verbose,
         debug=debug)  # fmt: skip


@app.command(rich_help_panel=_ONCE)
def backup(
    box: BoxName = None,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|-]",
            help="Where to; `-` is standard output. By default BOX-TIME.tar.zst in this folder.",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Back the home volume up into a file, also while notebooks run.

    [b]jupbox backup workbox[/b], [b]jupbox backup workbox - > /mnt/workbox.tar.zst[/b]
    """
    _run("backup", box_name=box, file=file, debug=debug)


@app.command(rich_help_panel=_ONCE)
def restore(
    box: Annotated[str, typer.Argument(metavar="BOX", help="As for the other verbs.")],
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|-", help="The backup; `-` is standard input.", show_default=False
        ),
    ] = None,
    *,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Instead of a file: what the box had before the last restore."),
    ] = False,
    from_other: Annotated[
        bool, typer.Option("--from-other", help="Take another box's, or another owner's, too.")
    ] = False,
    when_idle: WhenIdle = False,
    force: Force = False,
    wait: Wait = False,
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """Bring a backup back as the home volume; what was there is kept.

    The whole file is checked before anything is touched.

    [b]jupbox restore workbox workbox-20260301T180000Z.tar.zst[/b]
    """
    if (file is None) != undo:
        raise typer.BadParameter("Name the backup's file, or say --undo.")
    _run("restore", box_name=box, file=file, from_other=from_other, yes=yes,
         consent=_consent(force, when_idle), wait=wait, debug=debug)  # fmt: skip


@app.command(rich_help_panel=_ONCE)
def rm(
    box: BoxName = None,
    *,
    data: Annotated[
        bool,
        typer.Option(
            "--data",
            help="The home volume too, after a backup into this folder, and sidecars' data; asks "
            "for its name.",
        ),
    ] = False,
    no_backup: Annotated[
        bool, typer.Option("--no-backup", help="With --data: take no backup first.")
    ] = False,
    when_idle: WhenIdle = False,
    force: Force = False,
    wait: Wait = False,
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """Remove the server and every trace of it; never the notebooks' folder.

    [b]jupbox rm workbox[/b]
    """
    if no_backup and not data:
        raise typer.BadParameter("--no-backup goes with --data.")
    _run("remove", box_name=box, data=data, keep=not no_backup, yes=yes,
         consent=_consent(force, when_idle), wait=wait, debug=debug)  # fmt: skip


def main() -> NoReturn:
    """The console script."""
    show_what_can_be_shown()
    app(prog_name="jupbox")
    sys.exit(0)
