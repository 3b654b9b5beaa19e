"""Ports and adapters of everything that outlives a process: journal, lake, catalog, registry, outbox. No stage logic."""
