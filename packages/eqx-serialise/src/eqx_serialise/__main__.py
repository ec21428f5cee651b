"""The command line: `python -m eqx_serialise inspect|verify|diff|convert FILE...`."""

import argparse
import functools
import importlib
import sys
import types
from collections.abc import Sequence
from typing import Any

from ._checkpoint_error import CheckpointError
from ._convert import convert
from ._diff import diff
from ._inspect import inspect
from ._verify import verify

_EXIT_CODES = """\
Exit code: 0 if all is well; 1 if a file is damaged or no checkpoint, or two files differ; 2 if a file cannot be read
or the command is not understood."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of a command.

    Args:
      arguments: The words after the name of the program, by default those of this process.

    Example:
      >>> main(["inspect", "/no/such/file"])
      2
    """
    chosen = _parser().parse_args(arguments)
    code = 0
    for files in chosen.split(chosen):
        try:
            code = max(code, chosen.run(*files))
        except OSError as error:
            code = _complain(error, 2)
        except (CheckpointError, RuntimeError, TypeError, ValueError) as error:
            code = max(code, _complain(error, 1))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eqx_serialise",
        description="Look at checkpoints, check them, compare them, and make them of .eqx files.",
        epilog=_EXIT_CODES,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    each: dict[str, Any] = {"nargs": "+", "metavar": "FILE", "help": "a checkpoint"}

    command = commands.add_parser("inspect", help="print what files hold, from their headers alone")
    command.add_argument("files", **each)
    command.set_defaults(run=_inspect, split=lambda chosen: [(file,) for file in chosen.files])

    command = commands.add_parser("verify", help="check that every byte of files is what was written")
    command.add_argument("files", **each)
    command.set_defaults(run=_verify, split=lambda chosen: [(file,) for file in chosen.files])

    command = commands.add_parser("diff", help="print how two files differ")
    command.add_argument("a", metavar="FILE", help="a checkpoint")
    command.add_argument("b", metavar="FILE", help="another checkpoint")
    command.set_defaults(run=_diff, split=lambda chosen: [(chosen.a, chosen.b)])

    command = commands.add_parser("convert", help="make a checkpoint of an .eqx file and the model it was saved from")
    command.add_argument("source", metavar="FILE", help="the .eqx file")
    command.add_argument("target", metavar="FILE", help="the checkpoint to write")
    command.add_argument(
        "--like",
        required=True,
        metavar="MODULE:NAME",
        type=_imported,
        help="the model or its shapes, or a function without arguments that returns it; the module is imported",
    )
    command.set_defaults(run=_convert, split=lambda chosen: [(chosen.source, chosen.like, chosen.target)])
    return parser


def _inspect(file: str) -> int:
    print(inspect(file))
    return 0


def _verify(file: str) -> int:
    contents = verify(file)
    print(f"{contents.file}: {len(contents)} leaves are what was written")
    return 0


def _diff(a: str, b: str) -> int:
    found = diff(a, b)
    print(found)
    return 1 if found else 0


def _convert(source: str, like: Any, target: str) -> int:
    # A model can often be called as well, but it is no function.
    convert(source, like() if isinstance(like, (type, types.FunctionType)) else like, target)
    print(inspect(target))
    return 0


def _imported(place: str) -> Any:
    """Return what `MODULE:NAME` stands for. Whoever gives the command says so; no file can."""
    module, _, names = place.partition(":")
    try:
        return functools.reduce(getattr, names.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise argparse.ArgumentTypeError(
            f"must be a module and a name in it, as in project.models:build; got {place!r} ({error})"
        ) from error


def _complain(error: Exception, code: int) -> int:
    print(error, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
