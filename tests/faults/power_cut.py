"""The power cut: a root on a loop-mounted ext4 image; the writer is stopped and the image copied as the disk has it.

What the writer never forced to disk is still in memory and so not in the copy. The copy is taken again until two agree,
because the kernel may be writing back; then it is mounted, which replays the file system's journal, and used on.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

IMAGE_BYTES = 48 << 20
# A long commit interval of the file system: what nobody forces to disk stays off it for the whole trial.
WRITER_OPTIONS = "loop,commit=600,noatime"


@cache
def can_mount() -> bool:
    """Whether images can be made and mounted here: root with loop devices."""
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("mkfs.ext4", "mount", "umount", "losetup")):
        return False
    with tempfile.TemporaryDirectory() as folder:
        image = new_image(Path(folder) / "probe.img")
        try:
            with mounted(image, Path(folder) / "mount", WRITER_OPTIONS):
                return True
        except subprocess.CalledProcessError:
            return False


def new_image(path: Path, size: int = IMAGE_BYTES) -> Path:
    """An empty ext4 file system in a file."""
    with path.open("wb") as file:
        file.truncate(size)
    _call("mkfs.ext4", "-q", "-F", "-m", "0", str(path))
    return path


@contextmanager
def mounted(image: Path, where: Path, options: str = "loop") -> Iterator[Path]:
    """The image, mounted inside the block."""
    where.mkdir(parents=True, exist_ok=True)
    _call("mount", "-o", options, str(image), str(where))
    try:
        yield where
    finally:
        unmount(where)


@contextmanager
def small_disk(where: Path, size: int) -> Iterator[Path]:
    """A memory disk of this many bytes, mounted inside the block."""
    where.mkdir(parents=True, exist_ok=True)
    _call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where))
    try:
        yield where
    finally:
        unmount(where)


def unmount(where: Path) -> None:
    """Unmount, waiting for nobody."""
    subprocess.run(["umount", str(where)], check=False, capture_output=True)
    if os.path.ismount(where):
        _call("umount", "-l", str(where))


def force_all(where: Path) -> None:
    """Everything on this file system to disk: the state that a trial starts from."""
    _call("sync", "-f", str(where))


def fill(where: Path, left: int) -> Path:
    """A file that takes all but `left` bytes of the disk."""
    disk = os.statvfs(where)
    ballast = where / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, disk.f_bavail * disk.f_frsize - left))
    return ballast


def cut(image: Path, copy: Path) -> Path:
    """The image as the disk has it now; the writer must be stopped.

    Raises:
        AssertionError: The image did not come to rest: a copy would be a state no disk ever had.
    """
    again = copy.with_suffix(".again")
    for _ in range(20):
        for target in (copy, again):
            _call("cp", "--sparse=always", str(image), str(target))
        if filecmp.cmp(copy, again, shallow=False):
            again.unlink()
            return copy
    raise AssertionError("the image changed under every copy")


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
