"""Whatever library meets a full disk first, one error says so; other errors stay what they are."""

import errno
from pathlib import Path

import apsw
import pytest

from replenish.errors import StoreError, StoreFull
from replenish.stores.full_disk import is_disk_full, refusing_when_full, tells_of_full_disk


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device", "/disk/part.parquet"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("parquet: underlying IO error: No space left on device (os error 28)"),
        apsw.FullError("database or disk is full"),
    ],
)
def test_an_error_of_a_full_disk_is_store_full_whoever_raised_it(fault: Exception):
    words = "could not seal the log; what was acknowledged is kept and nothing is half done: make room"
    with pytest.raises(StoreFull, match=words) as raised, refusing_when_full("seal the log", Path("/disk")):
        raise fault
    named = getattr(fault, "filename", None) or "/disk"
    assert raised.value.ids["path"] == Path(named)


def test_what_led_to_an_error_counts_and_its_words_come_in_one_line():
    with pytest.raises(StoreFull) as raised, refusing_when_full("write", Path("/disk")):
        try:
            raise OSError(errno.ENOSPC, "No space left")
        except OSError as cause:
            raise StoreError("the table\n  could not \x1b[31mbe written") from cause
    assert "the table could not be written" in str(raised.value)


@pytest.mark.parametrize("fault", [OSError(errno.EACCES, "denied"), StoreError("another"), apsw.CantOpenError("no")])
def test_another_error_passes_as_it_is(fault: Exception, tmp_path: Path):
    with pytest.raises(type(fault)) as raised, refusing_when_full("write", tmp_path):
        raise fault
    assert raised.value is fault
    assert not is_disk_full(fault)
    assert not tells_of_full_disk(str(fault))
