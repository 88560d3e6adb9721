"""The entry point: every command, the options of all of them, and what errors look like."""

import errno
import signal
import tempfile
import traceback
from types import FrameType
from typing import Annotated, NoReturn

import typer

from cnnport._version import __version__
from cnnport.cli import (
    bench,
    build,
    doctor,
    evaluate,
    export,
    info,
    listing,
    optimize,
    package,
    parity,
    profile,
    quantize,
    report,
    run,
    tune,
    verify,
)
from cnnport.cli.console import error as print_error
from cnnport.cli.console import settings
from cnnport.errors import CnnportError, first_line

# An internal error is neither a failed check nor the user's mistake; sysexits.h calls it EX_SOFTWARE.
_INTERNAL_ERROR = 70

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}

app = typer.Typer(
    name="cnnport",
    help="CNNs from PyTorch to every runtime, as one small, verified ONNX file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(listing.list_models)
app.command("info")(info.info)
app.command("export")(export.export)
app.command("optimize")(optimize.optimize)
app.command("quantize")(quantize.quantize)
app.command("verify")(verify.verify)
app.command("run")(run.run)
app.command("bench")(bench.bench)
app.command("profile")(profile.profile)
app.command("parity")(parity.parity)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("tune")(tune.tune)
app.command("build")(build.build)
app.command("package")(package.package)
app.command("doctor")(doctor.doctor)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"cnnport {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more on standard error.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Errors only on standard error.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    settings.verbose, settings.quiet, settings.debug = verbose, quiet, debug


def main(arguments: list[str] | None = None) -> int:
    """Run one command and give its exit code: 0 fine, 1 a check failed, 2 bad input, 3 runtime not available."""
    # A terminated command cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, _interrupt)
    settings.debug = False
    try:
        code = app(arguments, prog_name="cnnport", standalone_mode=False)
    except CnnportError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except typer.Abort:
        return _fail("aborted", 130)
    except MemoryError:
        return _fail("out of memory: try a smaller batch or image size", CnnportError.exit_code)
    except Exception as error:
        # Wrong usage, as typer tells it, carries its own message; its class has no stable public name.
        if hasattr(error, "format_message"):
            message = error.format_message() or "a command is missing"
            return _fail(f"{message}\nsee {_command_of(error)} --help", CnnportError.exit_code)
        # Results say so of themselves; this is of what lies elsewhere while work goes on.
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            where = f"temporary files lie in {tempfile.gettempdir()}, or where TMPDIR says"
            return _fail(f"{error.strerror}: {where}", CnnportError.exit_code)
        what = f"{type(error).__name__}: {first_line(error)}"
        message = f"internal error, please report it: {what}\nrun `cnnport --debug ...` to see where"
        return _fail(message, _INTERNAL_ERROR)
    if code == 130:
        return _fail("interrupted", 130)
    return int(code or 0)


def _command_of(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context else "cnnport"


def _fail(message: str, code: int) -> int:
    if settings.debug:
        traceback.print_exc()
    print_error(message)
    return code


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
