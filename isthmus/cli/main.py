"""The command's entry: verbs, exit codes and how failures are told.

Exit codes: 0 done, 1 the check failed, 2 wrong use, 3 cannot reach or cannot do something here, 70 a bug (one
line, and a report in a file).
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from typing import NoReturn

import typer

from isthmus import __version__
from isthmus.cli import (
    bootstrap,
    capture,
    clusters,
    crds,
    demo,
    dns,
    events,
    explain,
    proxies,
    run,
    services,
    status,
    translate,
)
from isthmus.errors import ConfigError, IsthmusError

EXIT_WRONG_USE = 2
EXIT_CANNOT = 3
EXIT_INTERRUPTED = 130
EXIT_BUG = 70

app = typer.Typer(
    name="isthmus",
    help="Schedules service traffic across Kubernetes clusters.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text: readable anywhere, and half the time to the first line
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="status", epilog=status.EXAMPLES)(status.command)
app.command(name="services", epilog=services.EXAMPLES)(services.command)
app.command(name="explain", epilog=explain.EXAMPLES, no_args_is_help=True)(explain.command)
app.add_typer(clusters.app, name="clusters")
app.add_typer(dns.app, name="dns")
app.command(name="proxies", epilog=proxies.EXAMPLES)(proxies.command)
app.command(name="events", epilog=events.EXAMPLES)(events.command)
app.command(name="translate", epilog=translate.EXAMPLES, no_args_is_help=True)(translate.command)
app.add_typer(bootstrap.app, name="bootstrap")
app.command(name="capture", epilog=capture.EXAMPLES, no_args_is_help=True)(capture.command)
app.add_typer(crds.app, name="crds", epilog=crds.EXAMPLES)
app.command(name="demo", no_args_is_help=False, epilog=demo.EXAMPLES)(demo.command)
app.add_typer(run.app, name="run")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"isthmus {__version__}")


def kubectl() -> NoReturn:
    """The same command as a plugin: `kubectl isthmus …` runs the program `kubectl-isthmus`."""
    main("kubectl isthmus")


def main(name: str = "isthmus") -> NoReturn:
    """Runs the command line and ends the process with its exit code."""
    try:
        app(prog_name=name)
    except ConfigError as error:
        _fail(str(error), EXIT_WRONG_USE)
    except IsthmusError as error:
        _fail(str(error), EXIT_CANNOT)
    except (KeyboardInterrupt, BrokenPipeError):
        # Nothing more can or need be said; stdout may be gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 (the last resort of a program)
        _fail(f"{type(error).__name__}: {error} (a bug; please report it with {_report()})", EXIT_BUG)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"isthmus: {message}\n")
    sys.exit(code)


def _report() -> str:
    """Saves what a developer needs to see and returns the file's path."""
    with tempfile.NamedTemporaryFile("w", prefix="isthmus-bug-", suffix=".txt", delete=False) as file:
        file.write(f"isthmus {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n")
        traceback.print_exc(file=file)
    return file.name
