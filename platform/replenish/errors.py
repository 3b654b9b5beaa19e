"""Every error the platform raises on purpose.

ReplenishError
├── OutOfRange            an argument lies outside its mathematical range: our mistake
├── BrokenPromise         something we guarantee did not hold (a count, a digest): our mistake
├── ContractError         a contract, feed or policy file is malformed: its author mends it
│   ├── UnknownStream     a name that no contract declares
│   └── IncompatibleSchema  a stored table and the contract of its stream do not fit
├── FileFault             a whole offered file is refused and dead-lettered
├── EventFault            a single event is refused and dead-lettered
├── RequestRefused        an HTTP request is refused as a whole; `status` goes to its sender
├── SourceFault           a source's change stream cannot be read: its protocol, slot or tables are not as needed
├── NotApplicable         a stage lacks an input that this data set does not have
├── AuditFailed           a table did not pass its checks and was not committed
└── StoreError            a store could not do what was asked
    ├── TableMissing      the lake has no such table
    ├── TableSetAside     a rebuild or the doctor took the table away while it was in use
    ├── DigestMismatch    a stored file is not what its manifest says
    ├── WriteConflict     another writer moved the table on
    ├── StoreFull         the disk is full: nothing was written, try again when there is space
    ├── WriterFailed      the journal's writer stopped after an I/O error: the process has to end
    ├── JournalOverloaded more is waiting to be journalled than may wait: offer it again later
    ├── AlreadyRunning    another process holds the lock of this purpose
    ├── Fenced            another root was promoted: this one may no longer write
    └── DamagedLog        the event log is not what was written
"""

from __future__ import annotations


class ReplenishError(Exception):
    """Root of the tree; `ids` holds what a person needs to act (feed, sku_id, run_id ...)."""

    def __init__(self, message: str, **ids: object) -> None:
        super().__init__(message if not ids else f"{message} [{', '.join(f'{k}={v}' for k, v in ids.items())}]")
        self.ids = ids


class OutOfRange(ReplenishError, ValueError):
    """An argument lies outside the range its formula is defined on."""


class BrokenPromise(ReplenishError):
    """A guarantee of the platform did not hold; never caught, always a bug or damage."""


class ContractError(ReplenishError):
    """A contract, feed or policy file is malformed; the message names file, field and rule."""


class UnknownStream(ContractError):
    """A stream name that no contract declares."""


class IncompatibleSchema(ContractError):
    """A stored table was written under a contract that the present one does not fit; nothing was written."""


class FileFault(ReplenishError):
    """A whole offered file is refused; `reason` is the code kept with the dead letter."""

    def __init__(self, reason: str, message: str, **ids: object) -> None:
        super().__init__(message, **ids)
        self.reason = reason


class EventFault(ReplenishError):
    """A single event is refused; `reason`, `field` and `rule` are kept with the dead letter."""

    def __init__(self, reason: str, rule: str, *, field: str | None = None) -> None:
        super().__init__(f"{reason}: {rule}" if field is None else f"{reason}: {field}: {rule}")
        self.reason = reason
        self.rule = rule
        self.field = field


class RequestRefused(ReplenishError):
    """An HTTP request is refused as a whole: `status` and `code` are its answer, nothing of it was accepted."""

    def __init__(self, status: int, code: str, message: str, **ids: object) -> None:
        super().__init__(message, **ids)
        self.status = status
        self.code = code


class SourceFault(ReplenishError):
    """A source's change stream cannot be read on; the message says what its owner has to do.

    `may_pass`: it may mend itself (the source was away), so trying again makes sense.
    """

    def __init__(self, message: str, *, may_pass: bool = False, **ids: object) -> None:
        super().__init__(message, **ids)
        self.may_pass = may_pass


class NotApplicable(ReplenishError):
    """A stage lacks an input which this data set does not have; reported, never an alarm."""


class AuditFailed(ReplenishError):
    """A table failed its checks before the commit; nothing was written."""


class StoreError(ReplenishError):
    """A store could not do what was asked."""


class TableMissing(StoreError):
    """The lake has no table of this name yet."""


class TableSetAside(StoreError):
    """A rebuild or the doctor took the table away while it was read or maintained; again once that is done."""


class DigestMismatch(StoreError):
    """A stored file differs from the digest in its manifest."""


class WriteConflict(StoreError):
    """Another writer moved the table on between our read and our commit."""


class StoreFull(StoreError):
    """The disk is full; nothing was written and nothing acknowledged, and the store works again once there is space."""


class WriterFailed(StoreError):
    """The journal's writer met an I/O error whose outcome nobody knows, and stopped for good; end the process."""


class JournalOverloaded(StoreError):
    """More events wait for the journal than may wait; nothing was taken, offer them again later."""


class AlreadyRunning(StoreError):
    """Another process holds the lock of this purpose; the message names it."""


class Fenced(StoreError):
    """A root with a later epoch was promoted: this one may no longer write."""


class DamagedLog(StoreError):
    """The event log is not what was written; the message names the first bad place. Run `replenish doctor`."""
