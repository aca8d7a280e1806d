"""The command line: words in, the package's numbers out, as a table or as JSON.

Results go to stdout, progress and complaints to stderr. Exit codes: 0 done; 1 an error, said in one line; 2 a command
that cannot be meant, said in one line; 130 Ctrl-C. `making` has the commands that begin with a run, `asking` those that
begin with a sketch on disk, `words` turns what is typed into runs, measurements and subsets, `output` alone prints.
What takes long to import is imported by the command that needs it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from circuitsketch.cli import asking, making
from circuitsketch.cli.output import Interrupted, complain
from circuitsketch.cli.words import Mistyped
from circuitsketch.errors import CircuitSketchError

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130  # the last is 128 + SIGINT, as shells have it

ABOUT = "What would a trained model say if some of its training data had never been there?"
FIRST_STEPS = """\
Begin with a run of the zoo (microgpt, logistic, mlp, cnn), or with your own:

  circuitsketch sketch logistic --out tumours.sketch

  circuitsketch predict tumours.sketch --measure held_out_loss --without 1,5

  circuitsketch influence tumours.sketch --measure held_out_loss --top 10

COMMAND --help has an example of each."""

app = typer.Typer(
    name="circuitsketch",
    help=ABOUT,
    epilog=FIRST_STEPS,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from circuitsketch import __version__

        typer.echo(f"circuitsketch {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and leave."),
    ] = False,
) -> None:
    """What would a trained model say if some of its training data had never been there?"""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


EXAMPLES: dict[Any, str] = {**making.EXAMPLES, **asking.EXAMPLES}
PANELS: dict[str, tuple[Any, ...]] = {
    "Begin": (making.demo, making.sketch, making.plan),
    "Ask a sketch": (asking.predict, asking.influence, asking.stability, asking.evaluate, asking.info),
    "Look closer": (making.trace, making.profile, making.figures),
}
COMMANDS = [(function, panel) for panel, functions in PANELS.items() for function in functions]


def paragraphs(text: str) -> str:
    """A docstring with a line for each paragraph, for a terminal to break where it is full."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


for function, panel in COMMANDS:
    app.command(help=paragraphs(function.__doc__), epilog=EXAMPLES[function], rich_help_panel=panel)(function)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on `arguments`, the process's own by default; leaves by SystemExit with the code."""
    warnings.showwarning = show_warning
    try:
        code = app(
            args=None if arguments is None else list(arguments),
            prog_name="circuitsketch",
            standalone_mode=False,
        )
    except Interrupted as reason:
        code = complain(f"interrupted: {reason}", INTERRUPTED)
    except Mistyped as reason:
        code = complain(str(reason), MISTAKE)
    except CircuitSketchError as reason:
        code = complain(str(reason), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        code = complain("interrupted: nothing was kept", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        code = FAILED
    except Exception as reason:
        # A wrong option: typer's and click's usage errors share this method, and no base class across versions.
        if not hasattr(reason, "format_message"):
            raise
        code = complain(f"{said_by(reason)}. {where_to_look(reason)}", MISTAKE)
    else:
        if code == INTERRUPTED:
            complain("interrupted: nothing was kept", INTERRUPTED)
    sys.exit(code or 0)


def said_by(reason: Any) -> str:
    """What a usage error says, without the words of the library that checks values."""
    text = reason.format_message().replace("Value error, ", "").removeprefix("Invalid value: ")
    return (
        text.rstrip(" .")
        .replace(", unable to parse string as a number", "")
        .replace(", unable to parse string as an integer", "")
    )


def where_to_look(reason: Any) -> str:
    """Which help tells how the command is meant."""
    context = getattr(reason, "ctx", None)
    return f"Try: {context.command_path if context else 'circuitsketch'} --help"


def show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """A warning in one line on stderr, without the line of the package that gave it."""
    complain(f"warning: {message}", 0)


__all__ = ["app", "main"]
