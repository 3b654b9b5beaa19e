"""Who sends: bearer tokens and signed webhooks, and which sources and feeds each may write."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook

from replenish.errors import ContractError, RequestRefused
from replenish.ingest.reserved_sources import is_reserved_source

Headers = Mapping[str, str]
"""Header names in lower case."""

WEBHOOK_TOLERANCE_SECONDS = 300
WEBHOOK_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
MOST_SIGNATURES = 8
"""Signatures of one request: one per key while keys are rotated."""


@dataclass(frozen=True)
class HttpSource:
    """One sender: the `source` it may write as, its feeds, and how it proves itself (neither way: it does not)."""

    source: str
    feeds: frozenset[str]
    token: str | None = None
    webhook_secrets: tuple[str, ...] = ()

    @property
    def is_guarded(self) -> bool:
        """Whether a sender has to prove that it is this source."""
        return self.token is not None or bool(self.webhook_secrets)


@dataclass(frozen=True)
class Sender:
    """A request's proven sender. `grants`: source to feeds it may write; None = everything (an open door)."""

    grants: Mapping[str, frozenset[str]] | None
    webhook_id: str | None = None

    def may_write(self, source: str, feed_id: str) -> bool:
        """Whether events of this source and feed are this sender's to send; the platform's own are nobody's."""
        if is_reserved_source(source):
            return False
        return self.grants is None or feed_id in self.grants.get(source, ())

    @property
    def default_source(self) -> str | None:
        """The one source this sender is; None where it could be several."""
        return next(iter(self.grants)) if self.grants is not None and len(self.grants) == 1 else None


class Credentials:
    """The proofs that are known. Without any source the door is open: every sender may write everything."""

    def __init__(self, sources: tuple[HttpSource, ...], clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._tokens = [(_digest(s.token), s) for s in sources if s.token is not None]
        try:
            self._hooks = [(Webhook(secret), s) for s in sources for secret in s.webhook_secrets]
        except Exception as error:
            raise ContractError("a webhook secret must be base64, with or without whsec_ before it") from error
        unguarded = {s.source: s.feeds for s in sources if not s.is_guarded}
        self._nobody = Sender(None) if not sources else Sender(unguarded) if unguarded else None

    @property
    def is_guarded(self) -> bool:
        """Whether every sender has to prove itself."""
        return self._nobody is None

    def sender_by_headers(self, headers: Headers) -> Sender | None:
        """The sender where headers alone prove it; None where a signature over the body is still to be checked.

        Raises:
            RequestRefused: 401, no proof, a wrong one, or a signature outside its time.
        """
        proof = headers.get("authorization")
        if proof is not None:
            return self._by_token(proof)
        if any(name in headers for name in WEBHOOK_HEADERS):
            self._signed_at(headers)
            return None
        if self._nobody is None:
            raise _unproven("send a bearer token, or sign the request as Standard Webhooks say")
        return self._nobody

    def sender_by_signature(self, headers: Headers, body: bytes) -> Sender:
        """The sender whose secret signed this body, as received.

        Raises:
            RequestRefused: 401, no known secret did.
        """
        signed_at = self._signed_at(headers)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise _unproven("a signed body must be UTF-8") from None
        given = headers["webhook-signature"].split(" ")[:MOST_SIGNATURES]
        webhook_id = headers["webhook-id"]
        grants: dict[str, frozenset[str]] = {}
        for hook, source in self._hooks:
            wanted = hook.sign(webhook_id, signed_at, text)
            # Compared as text: base64 has several spellings of one signature, and only one of them was made.
            if sum(hmac.compare_digest(wanted.encode(), one.encode()) for one in given):
                grants[source.source] = source.feeds
        if not grants:
            raise _unproven("no known secret made this signature")
        return Sender(grants, webhook_id)

    def _by_token(self, proof: str) -> Sender:
        scheme, _, token = proof.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unproven("authorization must be: Bearer <token>")
        digest = _digest(token.strip())
        # All are compared, so that the time taken says nothing about which one is near.
        found = [source for known, source in self._tokens if hmac.compare_digest(known, digest)]
        if not found:
            raise _unproven("this token is not known")
        return Sender({source.source: source.feeds for source in found})

    def _signed_at(self, headers: Headers) -> datetime:
        missing = [name for name in WEBHOOK_HEADERS if not headers.get(name)]
        if missing:
            raise _unproven(f"a signed request needs the header {missing[0]}")
        if not re.fullmatch(r"[\x21-\x7e]{1,256}", headers["webhook-id"]):
            raise _unproven("webhook-id must be 1 to 256 visible characters")
        stamp = headers["webhook-timestamp"]
        # Seconds as a plain number: `12.5` and ` 12` would pass for a signature made over `12`.
        if not re.fullmatch(r"[1-9][0-9]{0,11}", stamp):
            raise _unproven("webhook-timestamp must be seconds since 1970")
        if math.fabs(self._clock().timestamp() - int(stamp)) > WEBHOOK_TOLERANCE_SECONDS:
            raise _unproven(f"webhook-timestamp is more than {WEBHOOK_TOLERANCE_SECONDS} seconds away from now")
        return datetime.fromtimestamp(int(stamp), UTC)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _unproven(what: str) -> RequestRefused:
    return RequestRefused(401, "unauthenticated", what)
