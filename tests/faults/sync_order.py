"""The fsync order of a run, from its system calls: a check for the power cut where no image can be mounted.

A run is traced with strace. Every write makes a file unsafe until it is fsynced, every new name makes its folder
unsafe until that is fsynced. Nothing a client was told of may be unsafe at the moment of the ack; no table may get a
commit while another one's last commit is unsafe.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

CALLS = "openat,creat,write,pwrite64,pwritev,pwritev2,writev,fsync,fdatasync,sync_file_range,rename,renameat,renameat2"
CALLS += ",link,linkat,symlinkat,mkdir,mkdirat,unlink,unlinkat,copy_file_range,sendfile,ftruncate"
_CALL = re.compile(r"^(?:\[pid +)?(?P<pid>\d+)\]? +(?P<call>\w+)\((?P<rest>.*)$")
_UNFINISHED = re.compile(r"^(?P<head>.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^<\.\.\. (?P<call>\w+) resumed>(?P<tail>.*)$")
_DESCRIPTOR = re.compile(r"-?\w+<(?P<path>[^>]*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


def has_strace() -> bool:
    """Whether strace is there and may trace."""
    found = shutil.which("strace")
    if found is None:
        return False
    tried = subprocess.run([found, "-f", "-e", "trace=none", "true"], capture_output=True, check=False)
    return tried.returncode == 0


def traced(command: Sequence[str], trace: Path) -> list[str]:
    """The command, run under strace with every system call that matters written to `trace`."""
    return ["strace", "-f", "-y", "-s", "0", "-o", str(trace), "-e", f"trace={CALLS}", *command]


@dataclass
class SyncOrder:
    """What is not on disk yet, call by call, below `root`; `ack_file` is where the client notes its acks."""

    root: str
    ack_file: str
    unsafe: dict[str, str] = field(default_factory=dict)
    """Path to why it is unsafe."""
    breaches: list[str] = field(default_factory=list)
    n_acks: int = 0
    n_commits: int = 0
    n_syncs: int = 0
    _known: set[str] = field(default_factory=set)
    _new_names: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def read(self, trace: Path) -> SyncOrder:
        """Follow a whole trace, `strace -f -y` of the run."""
        waiting: dict[str, str] = {}
        with trace.open(errors="replace") as lines:
            for line in lines:
                pid, _, rest = line.rstrip("\n").partition(" ")
                rest = rest.lstrip()
                if (match := _UNFINISHED.match(rest)) is not None:
                    waiting[pid] = match["head"]
                elif (match := _RESUMED.match(rest)) is not None:
                    self._follow(waiting.pop(pid, "") + match["tail"])
                else:
                    self._follow(rest)
        return self

    def _follow(self, text: str) -> None:
        call, opened, rest = text.partition("(")
        arguments, _, result = rest.rpartition(" = ")
        if not opened or result.startswith("-1"):
            return
        if call in ("write", "pwrite64", "pwritev", "pwritev2", "writev", "ftruncate"):
            self._written(_first_path(arguments))
        elif call == "copy_file_range":
            self._written(_paths(arguments)[-1])
        elif call == "sendfile":
            self._written(_first_path(arguments))
        elif call in ("fsync", "fdatasync"):
            self.n_syncs += 1
            self._synced(_first_path(arguments))
        elif call in ("openat", "creat"):
            if "O_CREAT" in arguments:
                self._named(_first_path(result), new=False)
        elif call.startswith(("rename", "link", "mkdir")):
            self._renamed(call, arguments)
        elif call.startswith("unlink"):
            gone = _named_path(arguments)
            self._known.discard(gone)
            for entry in (gone, f"{gone} (name)"):
                self.unsafe.pop(entry, None)

    def _written(self, path: str) -> None:
        if path == self.ack_file:
            self._acked()
        elif path.startswith(self.root):
            self.unsafe[path] = "written"

    def _synced(self, path: str) -> None:
        self.unsafe.pop(path, None)
        for entry in self._new_names.pop(path, ()):
            self.unsafe.pop(entry, None)

    def _named(self, path: str, *, new: bool) -> None:
        """A name appeared in a folder. A file opened with O_CREAT may have been there, so only others count as new."""
        if path.startswith(self.root) and (new or path not in self._known):
            self._known.add(path)
            folder, entry = str(Path(path).parent), f"{path} (name)"
            self.unsafe[entry] = "its name is new"
            self._new_names[folder].add(entry)

    def _renamed(self, call: str, arguments: str) -> None:
        source, target = [*_named_paths(arguments), "", ""][:2]
        if call.startswith("mkdir"):
            self._named(source, new=True)
            return
        if source in self.unsafe and target.startswith(self.root):
            self.unsafe[target] = self.unsafe[source]
        if call.startswith("rename"):
            self._known.discard(source)
            for entry in (source, f"{source} (name)"):
                self.unsafe.pop(entry, None)
        if "/_delta_log/" in target and target.endswith(".json"):
            self._committed(target)
        self._named(target, new=True)

    def _acked(self) -> None:
        self.n_acks += 1
        for path, why in self.unsafe.items():
            if self._is_of_the_log(path):
                self.breaches.append(f"ack {self.n_acks}: {path.removeprefix(self.root)} is unsafe: {why}")

    def _committed(self, entry: str) -> None:
        self.n_commits += 1
        table = entry.partition("/_delta_log/")[0]
        for path, why in self.unsafe.items():
            if path.startswith(f"{self.root}/lake/") and "/_delta_log/" in path and not path.startswith(f"{table}/"):
                self.breaches.append(f"{entry.removeprefix(self.root)}: {path.removeprefix(self.root)}: {why}")

    def _is_of_the_log(self, path: str) -> bool:
        below = path.removeprefix(f"{self.root}/")
        # Drafts under other names are nobody's yet; the database file itself is behind its write-ahead log.
        if below.startswith(("archive", "accepted", "segments")):
            return ".tmp" not in below
        return below.startswith("journal.sqlite-wal") or below == "journal.sqlite (name)"

    def unsafe_in_lake(self) -> list[str]:
        """What of the lake is not on disk now: empty after a finished update."""
        # Digests beside the tables are the doctor's notes: without one a file is merely not compared.
        lake, notes = f"{self.root}/lake", f"{self.root}/lake/.digests"
        unsafe = [path for path in self.unsafe if path.startswith(lake) and not path.startswith(notes)]
        return [f"{path.removeprefix(self.root)}: {self.unsafe[path]}" for path in unsafe]


def _paths(arguments: str) -> list[str]:
    return [match["path"].removesuffix(" (deleted)") for match in _DESCRIPTOR.finditer(arguments)] or [""]


def _first_path(arguments: str) -> str:
    return _paths(arguments)[0]


def _named_paths(arguments: str) -> list[str]:
    """Paths given as text, those relative to a descriptor made whole."""
    folders, texts = _paths(arguments), _TEXT.findall(arguments)
    return [
        text if text.startswith("/") else f"{folders[min(i, len(folders) - 1)]}/{text}" for i, text in enumerate(texts)
    ]


def _named_path(arguments: str) -> str:
    return _named_paths(arguments)[0] if _TEXT.search(arguments) else ""
