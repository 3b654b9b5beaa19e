"""A Spark Connect server of this machine with two executor processes, for the tests of the cluster engine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME_VARIABLE = "REPLENISH_SPARK_HOME"
"""Folder of an installed `pyspark` (extra `cluster-test`, in an environment of its own); `make cluster` sets it."""
EXECUTORS = "local-cluster[2,1,1536]"
"""Two executors, each a process with one core: rows cross from one to the other in every shuffle."""
START_SECONDS = 120


def why_not() -> str | None:
    """Why no cluster can be tested here; None where one can."""
    home = os.environ.get(HOME_VARIABLE)
    if not home:
        return f"{HOME_VARIABLE} is not set: `make cluster` installs Spark and sets it"
    if not (Path(home) / "jars").is_dir():
        return f"{HOME_VARIABLE}={home} holds no jars"
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark-client is not installed (extra `cluster`)"
    if shutil.which("java") is None:
        return "no Java: Spark needs 17 or later"
    return None


@contextmanager
def connect_server(log: Path) -> Iterator[str]:
    """The address of a server that lives as long as the block."""
    home = Path(os.environ[HOME_VARIABLE])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.memory": "1g",
        "spark.executor.memory": "1536m",
        "spark.ui.enabled": "false",
        # Small pages: a query of many joins holds one page for each at the same time.
        "spark.buffer.pageSize": "1m",
        "spark.sql.shuffle.partitions": "4",
        "spark.local.dir": str(log.parent / "spark"),
    }
    command = [str(home / "bin" / "spark-submit"), "--master", EXECUTORS]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    environment = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1"}
    with log.open("wb") as out:
        # A group of its own, so that its executors end with it.
        server = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, start_new_session=True, cwd=log.parent
        )
    try:
        _wait(server, log)
        yield f"sc://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait(server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(START_SECONDS * 2):
        said = log.read_text(errors="replace")
        if "Spark Connect server started" in said and said.count("Registered executor") >= 2:
            return
        assert server.poll() is None, said[-3000:]
        time.sleep(0.5)
    raise AssertionError(
        f"no server with two executors in {START_SECONDS} s\n{log.read_text(errors='replace')[-3000:]}"
    )
