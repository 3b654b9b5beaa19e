"""Where the `replenish` command begins: what has to be set before libraries start their threads, then the command."""

from __future__ import annotations

from replenish.cli.allocator import share_freed_memory


def main() -> None:
    """Run `replenish` with the arguments of the process."""
    share_freed_memory()
    # Imported here: frames, tables and arrays start threads as they load, and each brings an arena.
    from replenish.cli.main import main as run_command

    run_command()
