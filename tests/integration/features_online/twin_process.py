"""A real `replenish twin serve` process and questions to it over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

PROGRAM = """
import sys
from datetime import datetime
from replenish.cli import twin
from replenish.cli.main import main
now = datetime.fromisoformat(sys.argv.pop(1))
twin.now_utc = lambda: now
main()
"""
"""The command with a clock that stands, so that the world of the test is of the day."""


class TwinProcess:
    """One running twin; `told` is what it said before it listened."""

    def __init__(self, root: Path, now: datetime, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, now.isoformat(), "twin", "serve", "--port", "0", *options],
            env={**os.environ, "REPLENISH_ROOT": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.told: list[str] = []
        self.url = ""
        for line in self.process.stdout or ():
            if line.startswith("listening on "):
                self.url = line.split()[-1]
                break
            self.told.append(line.strip())

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body: JSON, or text of the metrics."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                body = answer.read().decode()
                return answer.status, json.loads(body) if body.startswith("{") else body
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def wait_for(self, seq: int) -> None:
        """Until the log is taken in up to a place."""
        for _ in range(2_000):
            state = self.get("/health")[1]
            if all(one["seq"] >= seq for one in state["sets"].values()):
                return
            time.sleep(0.01)
        raise AssertionError(f"place {seq} was not taken in: {state}")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(60)


@contextmanager
def twin_serving(root: Path, now: datetime, *options: str) -> Iterator[TwinProcess]:
    """A twin that is gone behind the block, however the block ends."""
    twin = TwinProcess(root, now, *options)
    try:
        assert twin.url, twin.process.stderr.read() if twin.process.stderr else ""
        yield twin
    finally:
        twin.kill()
        for pipe in (twin.process.stdout, twin.process.stderr):
            if pipe is not None:
                pipe.close()
