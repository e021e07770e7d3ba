"""The commands. Names, options and exit codes are a contract; each command imports what it needs when it runs."""

from __future__ import annotations

import os
import signal
import sys

from sightline.cli import studies  # --help lists commands in the order in which they are made

# isort: split
from sightline.cli import adapters

# isort: split
from sightline.cli import results

# isort: split
from sightline.cli import reviews
from sightline.cli.app import app, missing_extra
from sightline.errors import SightlineError, StudyError

__all__ = ["adapters", "app", "main", "results", "reviews", "studies"]


def main() -> None:
    """Run the command line; errors of ours end with their message and their exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    # Rows differ in length; without this the memory between them lies idle in pieces. Read when torch first allocates.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    try:
        app()
    except SightlineError as error:
        print(f"sightline: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ImportError as error:
        print(f"sightline: {missing_extra(error)}", file=sys.stderr)
        sys.exit(StudyError.exit_code)


def _interrupted(number: int, _: object) -> None:
    print("\nsightline: interrupted; the same command goes on from here", file=sys.stderr)
    sys.exit(128 + number)
