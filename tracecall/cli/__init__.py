"""The command line: parse, call one thing, print, set the exit status.

A file each for the commands, of which only the one that was typed is imported. With it comes neither torch nor rich:
torch is imported when a model is to be run, rich when something is to be printed, so that help and refusals are there
at once. Their annotations are not put off: typer would compile the text of each.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated

import typer

from tracecall.cli import output
from tracecall.errors import TracecallError

SUMMARY = "Show what a PyTorch model(x) really does: __call__, hooks, forward and submodules, with shapes and times."
COMMANDS = ("run", "show", "shapes", "explain", "diff", "compare")  # each the function of that name in its file


def main() -> None:
    """Run the command line and exit: 0 done, 1 the model's forward failed, 2 the command cannot be carried out."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character is no reason to fail
    try:
        status = _app()(standalone_mode=False)
    except TracecallError as error:
        status = output.refuse(str(error), error.details)
    except typer.Abort:
        status = 130
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        # what the option parser refuses: its classes moved between typer's releases, its message did not
        if not hasattr(error, "format_message"):
            raise
        status = output.refuse(f"{error.format_message()}  (see: {_command()} --help)")
    raise SystemExit(status if isinstance(status, int) else 0)


def _command() -> str:
    """The command that was typed, or `tracecall` where none was."""
    # from what was typed: not every refusal of the option parser knows its command
    return " ".join(["tracecall", *_typed()])


def _app() -> typer.Typer:
    """The command that was typed, or all of them where none was: each takes milliseconds to import and to read."""
    app = typer.Typer(
        name="tracecall",
        help=SUMMARY,
        invoke_without_command=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name in _typed() or COMMANDS:
        command: Callable[..., int | None] = getattr(import_module(f"tracecall.cli.{name}"), name)
        app.command(name)(command)
    return app


def _typed() -> list[str]:
    return [name for name in sys.argv[1:2] if name in COMMANDS]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        output.write(f"tracecall {version('tracecall')}\n")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        output.write(context.get_help() + "\n")
