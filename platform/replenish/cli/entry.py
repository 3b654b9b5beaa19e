"""Where the `replenish` command begins: what has to be set before libraries start their threads, then the command."""

from __future__ import annotations

from replenish.cli.allocator import tune_allocators


def start() -> None:
    """Run `replenish` with the arguments of the process."""
    tune_allocators()
    # Imported here: frames, tables and arrays start threads as they load, and each brings an arena.
    from replenish.cli.main import main as run_command

    run_command()
