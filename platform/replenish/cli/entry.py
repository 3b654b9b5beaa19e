"""Where the `replenish` command begins: what has to be set before libraries start their threads, then the command."""

from __future__ import annotations

import os
import sys

from replenish.cli.allocator import tune_allocators


def start() -> None:
    """Run `replenish` with the arguments of the process."""
    tune_allocators()
    if sys.argv[1:2] == ["settle"] and "--follow" in sys.argv:
        # Frames of some dozen rows: a second thread finds nothing to do, and looks for it on the twin's processor.
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
    # Imported here: frames, tables and arrays start threads as they load, and each brings an arena.
    from replenish.cli.main import main as run_command

    run_command()
