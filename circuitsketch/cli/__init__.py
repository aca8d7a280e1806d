"""The command line: results as tables or JSON.

Results go to stdout, progress and errors to stderr. Exit codes: 0 success; 1 error; 2 usage error; 130 interrupted.
Errors are one line. `attribute_command` answers from a run in one call, `page_command` shows a sketch on a page,
`figures_command` draws it; `run_commands` has the other commands that start from a run, `query_commands` those that
start from a sketch on disk; `parsing` parses runs and measurements, `subsets` parses subsets; only `output` prints.
Slow imports are inside the commands that need them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from circuitsketch.cli import attribute_command, figures_command, page_command, query_commands, run_commands
from circuitsketch.cli.output import Interrupted, print_error
from circuitsketch.cli.parsing import UsageError
from circuitsketch.errors import CircuitSketchError

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130  # the last is 128 + SIGINT, as in shells

ABOUT = "What would a trained model say if some of its training data had never been there?"
FIRST_STEPS = """\
Start with a run of the model zoo (microgpt, logistic, mlp, cnn), or with your own:

  circuitsketch attribute logistic --measure held_out_loss --without 1,5 --budget 60

Or compute a sketch once, and predict any measurement from it later:

  circuitsketch sketch logistic --out tumours.sketch

  circuitsketch predict tumours.sketch --measure held_out_loss --without 1,5

  circuitsketch influence tumours.sketch --measure held_out_loss --top 10

Run COMMAND --help for examples of each command."""

app = typer.Typer(
    name="circuitsketch",
    help=ABOUT,
    epilog=FIRST_STEPS,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(requested: bool) -> None:
    """Print the version and exit."""
    if requested:
        from circuitsketch import __version__

        typer.echo(f"circuitsketch {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """What would a trained model say if some of its training data had never been there?"""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


EXAMPLES: dict[Any, str] = {
    **attribute_command.EXAMPLES,
    **figures_command.EXAMPLES,
    **page_command.EXAMPLES,
    **run_commands.EXAMPLES,
    **query_commands.EXAMPLES,
}
PANELS: dict[str, tuple[Any, ...]] = {
    "Start": (run_commands.demo, attribute_command.attribute, run_commands.sketch, run_commands.plan),
    "Query a sketch": (
        query_commands.predict,
        query_commands.influence,
        query_commands.stability,
        query_commands.evaluate,
        page_command.page,
        query_commands.info,
    ),
    "Inspect": (run_commands.trace, run_commands.profile, figures_command.figures),
}
COMMANDS = [(function, panel) for panel, functions in PANELS.items() for function in functions]


def paragraphs(text: str) -> str:
    """Join the lines of each paragraph of a docstring, so that the terminal can wrap them."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


for function, panel in COMMANDS:
    app.command(help=paragraphs(function.__doc__), epilog=EXAMPLES[function], rich_help_panel=panel)(function)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on `arguments` (default: the process's own); raises SystemExit with the exit code."""
    warnings.showwarning = show_warning
    try:
        code = app(
            args=None if arguments is None else list(arguments),
            prog_name="circuitsketch",
            standalone_mode=False,
        )
    except Interrupted as reason:
        code = print_error(f"interrupted: {reason}", INTERRUPTED)
    except UsageError as reason:
        code = print_error(str(reason), USAGE_ERROR)
    except CircuitSketchError as reason:
        code = print_error(str(reason), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        code = print_error("interrupted: nothing was saved", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has exited, as `head` does
        sys.stderr.close()
        code = FAILED
    except Exception as reason:
        # A wrong option: typer's and click's usage errors share this method, and no base class across versions.
        if not hasattr(reason, "format_message"):
            raise
        code = print_error(f"{usage_message(reason)}. {help_hint(reason)}", USAGE_ERROR)
    else:
        if code == INTERRUPTED:
            print_error("interrupted: nothing was saved", INTERRUPTED)
    sys.exit(code or 0)


def usage_message(reason: Any) -> str:
    """Return a usage error's message, without phrases of the library that validates values."""
    text = reason.format_message().replace("Value error, ", "").removeprefix("Invalid value: ")
    return (
        text.rstrip(" .")
        .replace(", unable to parse string as a number", "")
        .replace(", unable to parse string as an integer", "")
    )


def help_hint(reason: Any) -> str:
    """Return which help to read after a usage error."""
    context = getattr(reason, "ctx", None)
    return f"Try: {context.command_path if context else 'circuitsketch'} --help"


def show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print a warning as one line on stderr, without the source line that issued it."""
    print_error(f"warning: {message}", 0)


__all__ = ["app", "main"]
