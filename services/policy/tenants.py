"""Tenants and the bearer tokens that stand for them (DESIGN 4)."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from baldistill.errors import InvalidInput

# Fits the pattern of names in specs, so that every tenant can own runs; and S3's rule for a bucket policy's prefix.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# 256 bits: nobody guesses one.
_TOKEN_BYTES = 32
# A person who finds a token in a log or a chat sees what it is; secret scanners too.
_TEXT_PREFIX = "bd_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it is known after it was shown. Times: UTC, None = never. is_admin: may act for every tenant."""

    tenant: str
    name: str
    is_admin: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """max_active_runs: most unfinished runs at once; None = unlimited.   tokens: by name, ended ones included."""

    name: str
    max_active_runs: int | None
    created_at: datetime
    tokens: tuple[Token, ...] = ()


class TenantRegistry(Protocol):
    """Durable tenants and tokens. Thread- and process-safe. Times by the database's clock."""

    def create(self, *, name: str, max_active_runs: int | None) -> Tenant:
        """Make a tenant. Raises InvalidInput, AlreadyThere."""

    def list_tenants(self) -> list[Tenant]:
        """Return all tenants by name."""

    def create_token(
        self, *, tenant: str, name: str, is_admin: bool, expires_at: datetime | None, sha256: str
    ) -> Token:
        """Make a token known by its digest. Raises InvalidInput, NotKnown (tenant), AlreadyThere."""

    def revoke_token(self, *, tenant: str, name: str) -> Token:
        """End a token. Idempotent. Raises NotKnown."""

    def find_token(self, *, sha256: str) -> Token | None:
        """Return the token of this digest, where it is neither over nor revoked."""


def new_token_text() -> str:
    """Return a new token: 256 random bits, readable as what it is."""
    return _TEXT_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def digest_of(token: str) -> str:
    """Return what is stored of a token.

    A fast hash is enough: slow ones protect passwords that people choose, and 256 random bits cannot be tried out. It
    is looked up by equality of digests, so that the time of the comparison tells nothing about the token's text.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def checked_name(name: str, *, field: str) -> str:
    """Return `name` where a tenant or token can be called so: it is part of keys, logs and metrics. Raises InvalidInput."""
    if _NAME.fullmatch(name) is None:
        raise InvalidInput("has 1 to 63 lower-case letters, digits and hyphens, no hyphen first", field=field)
    return name
