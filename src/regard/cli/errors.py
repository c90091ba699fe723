"""Errors as the user sees them: one line, and an exit status."""

from __future__ import annotations

from typing import Any

import typer
from typer import Context
from typer.core import TyperGroup

BAD_INPUT = 2
INTERRUPTED = 130


class CommandGroup(TyperGroup):
    """A group of commands that reports errors on one line, without a traceback."""

    def invoke(self, ctx: Context) -> Any:
        """Run a command, and report an error on one line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort, BrokenPipeError):  # typer ends these quietly
            raise
        except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
            typer.echo(f"regard: {one_line(error)}", err=True)
            raise typer.Exit(BAD_INPUT) from None


def one_line(error: Exception) -> str:
    r"""Return the message of an error, on one line.

    >>> one_line(FileNotFoundError(2, "No such file or directory", "cat.jpg"))
    'cat.jpg: No such file or directory'
    >>> one_line(ValueError("no mechanism\n  is called so"))
    'no mechanism is called so'
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
