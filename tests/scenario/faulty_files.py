"""Files that a source of the built-in retailer should never have sent: rows and whole files at fault."""

from __future__ import annotations

import gzip
from pathlib import Path

HEAD = "store,receipt,line,sold_at,article,qty,amount,customer,op,recorded_at\n"
ROW = "S1,S1-X{n},1,2024-04-20T10:00:00+02:00,A001,{qty},{amount},K1,I,2024-04-20T10:05:00+02:00\n"


def many(n: int, **changed: str) -> str:
    return "".join(ROW.format(n=i, **{"qty": "1", "amount": "2.00"} | changed) for i in range(n))


FAULTY_FILES: dict[str, bytes] = {
    "text in a number": (HEAD + ROW.format(n=1, qty="three", amount="2.00")).encode(),
    "negative units": (HEAD + ROW.format(n=1, qty="-4", amount="2.00")).encode(),
    "a number that is none": (HEAD + ROW.format(n=1, qty="NaN", amount="2.00")).encode(),
    "a number beyond int64": (HEAD + ROW.format(n=1, qty="9" * 30, amount="2.00")).encode(),
    "no time": (HEAD + "S1,S1-X,1,,A001,1,2.00,K1,I,2024-04-20T10:05:00+02:00\n").encode(),
    "a day that does not exist": (
        HEAD + "S1,S1-X,1,2024-02-31T10:00:00+01:00,A001,1,2.00,K1,I,2024-04-20T10:05:00+02:00\n"
    ).encode(),
    "a missing column": (
        HEAD.replace("article,", "") + "S1,S1-X,1,2024-04-20T10:00:00+02:00,1,2.00,K1,I,2024-04-20T10:05:00+02:00\n"
    ).encode(),
    "another separator": (HEAD + many(3)).replace(",", ";").encode(),
    "one key twice, two contents, no order": (
        HEAD + ROW.format(n=1, qty="1", amount="2.00") + ROW.format(n=1, qty="2", amount="4.00")
    ).encode(),
    "an offset of another zone": (HEAD + many(5).replace("+02:00", "-07:00")).encode(),
    "mostly rubbish": (HEAD + many(30, qty="many")).encode(),
    "a cut gzip": gzip.compress((HEAD + many(500)).encode())[:-40],
    "no bytes": b"",
    "a header and nothing else": HEAD.encode(),
    "no text": bytes(range(256)) * 8,
}


def drop_faulty_files(folder: Path) -> None:
    """Put every faulty file into a drop folder."""
    for number, content in enumerate(FAULTY_FILES.values()):
        suffix = ".csv.gz" if content[:2] == b"\x1f\x8b" else ".csv"
        (folder / f"sales-faulty-{number:02}{suffix}").write_bytes(content)
