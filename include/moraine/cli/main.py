"""The entry point: parse, run one verb, turn every end into an exit code. Tracebacks only with --debug."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from moraine import interrupts
from moraine.cli.context import Context
from moraine.cli.output import Output, OutputClosed
from moraine.cli.parser import parse, verb_module
from moraine.errors import Cancelled, MoraineError

INTERNAL = 1
CLOSED = 141  # what a shell reports for a program that SIGPIPE ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        args = parse(sys.argv[1:] if arguments is None else arguments, sys.stderr)
    except SystemExit as error:
        return int(error.code or 0)
    out = Output.standard(as_json=args.json, quiet=args.quiet, verbose=args.verbose)
    interrupts.heed(signal.SIGTERM)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # which it is for a shell's job in the background
        interrupts.heed(signal.SIGINT)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignores it hands that down: nothing could be awaited
    context = Context(out)
    try:
        code = verb_module(args.verb).run(args, context)
        out.flush()
        return code
    except OutputClosed:
        out.abandon()
        return CLOSED
    except KeyboardInterrupt:
        return _stopped(args, out)
    except Exception as error:  # the last line of defence: whatever it is, the user gets one line and a code
        if interrupts.came():  # it came up on the way out, or a library made it of the interrupt
            return _stopped(args, out)
        return _failed(args, out, error if isinstance(error, MoraineError) else _unexpected(error))
    finally:
        context.close()


class InternalError(MoraineError):
    """A failure nobody foresaw: a bug, or a machine out of memory."""

    code = "internal"
    exit_code = INTERNAL


def _unexpected(error: Exception) -> MoraineError:
    found = InternalError(f"{type(error).__name__}: {error}", hint="this is a bug; --debug shows where")
    found.__cause__ = error
    return found


def _failed(args: argparse.Namespace, out: Output, error: MoraineError) -> int:
    if args.debug:
        import traceback

        traceback.print_exception(error, file=out.stderr)
    out.error(error)
    return error.exit_code


def _stopped(args: argparse.Namespace, out: Output) -> int:
    interrupts.disregard()
    error = Cancelled("stopped by a signal", hint="a backup or restore goes on where it was when it is run again")
    return _failed(args, out, error)
