"""Ports and adapters of what outlives a process: journal, lake, catalog, registry, outbox. No stage logic."""
