"""The command line: one file per command. Heavy imports wait until a command runs, so that help answers at once."""

import gc
import sys
import traceback
import warnings

import typer

from ridgeway.cli import bench, chat, lab, machine, methods, roof, run, train
from ridgeway.core.errors import RidgewayError

app = typer.Typer(
    name="ridgeway",
    help="An LLM inference engine built on the roofline: every run says how far it was from what the machine "
    "allows, and why.",
    epilog="Begin with: ridgeway run",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("chat")(chat.chat)
app.command("bench")(bench.bench)
app.command("roof")(roof.roof)
app.command("lab")(lab.lab)
app.command("machine")(machine.machine)
app.command("methods")(methods.methods)
app.command("train")(train.train)


def _version(asked: bool) -> None:
    if asked:
        from ridgeway import __version__

        typer.echo(f"ridgeway {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
    debug: bool = typer.Option(
        False, "--debug", help="Show the traceback of an error; may stand anywhere on the line."
    ),
) -> None:
    pass


def _one_line(message: Warning | str, *where: object, **line: object) -> str:
    """A warning as people read it: what runs but is unwise, not where in the code that was noticed."""
    return f"warning: {message}\n"


def main() -> None:
    """Run a command. An error that a person can mend is one line, and exit code 2."""
    arguments = sys.argv[1:]
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    if debug:
        arguments.remove("--debug")
    warnings.formatwarning = _one_line
    # Modules and a vocabulary are many objects that stay; Python would look through them for garbage over and over.
    gc.set_threshold(100_000)
    try:
        app(args=arguments)  # an interrupt outside of an answer ends it with exit code 130
    except RidgewayError as error:
        if debug:
            traceback.print_exc()
        print(f"ridgeway: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has left, such as `head`
        sys.stderr.close()
        sys.exit(0)
