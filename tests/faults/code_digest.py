"""Which version of the code a trial was about: only the code whose faults the trials look for counts."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "platform" / "replenish"
ROOMS = ("stores", "ingest", "history", "contracts")
MODULES = ("errors.py", "bitemporal.py", "bitemporal_windows.py", "range_maximum.py", "digests.py", "cli/stages.py")
GOLD = PACKAGE.parents[1] / "dbt"


@cache
def code_digest() -> str:
    """sha256 over names and bytes of what takes events in, keeps them and makes gold and features of them."""
    paths = [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]
    # The table of features that the trials build is made by these modules; packages below have tests of their own.
    paths += (PACKAGE / "features").glob("*.py")
    paths += [PACKAGE / name for name in MODULES]
    paths += [path for folder in ("models", "macros") for path in (GOLD / folder).rglob("*.sql")]
    digest = hashlib.sha256()
    for path in sorted(paths):
        name = path.relative_to(PACKAGE.parents[1]).as_posix().encode()
        content = path.read_bytes()
        digest.update(b"%d:%s%d:" % (len(name), name, len(content)))
        digest.update(content)
    return digest.hexdigest()
