"""Which version of the code a trial was about: only the code whose faults the trials look for counts."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "platform" / "replenish"
ROOMS = ("stores", "ingest", "history", "contracts")
MODULES = ("errors.py", "bitemporal.py", "digests.py")


@cache
def code_digest() -> str:
    """sha256 over names and bytes of the modules that take events in and keep them."""
    paths = [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]
    paths += [PACKAGE / name for name in MODULES]
    digest = hashlib.sha256()
    for path in sorted(paths):
        name = path.relative_to(PACKAGE).as_posix().encode()
        content = path.read_bytes()
        digest.update(b"%d:%s%d:" % (len(name), name, len(content)))
        digest.update(content)
    return digest.hexdigest()
