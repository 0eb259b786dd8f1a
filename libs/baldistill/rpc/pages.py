"""Pages of lists: how many, and from where."""

from __future__ import annotations

import base64
import binascii

from baldistill.errors import InvalidInput

DEFAULT_PAGE_SIZE = 100
LONGEST_PAGE = 1000
# SQL's BIGINT: a larger one is an error of the database's, not of the caller's.
_LARGEST_NUMBER = 2**63 - 1


def page_size(asked: int) -> int:
    """Return how many entries a page has. Raises InvalidInput."""
    if asked > LONGEST_PAGE:
        raise InvalidInput(f"at most {LONGEST_PAGE}", field="page_size")
    return asked or DEFAULT_PAGE_SIZE


def page_token(last_id: str) -> str:
    """Return what asks for the page behind an entry. Opaque to callers."""
    return base64.urlsafe_b64encode(last_id.encode()).decode()


def last_id_of(token: str) -> str:
    """Return the entry that a page token stands behind; empty for the first page. Raises InvalidInput."""
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError) as error:
        raise wrong_token() from error


def last_number_of(token: str) -> int | None:
    """Return the number that a page token stands behind; None for the first page. Raises InvalidInput."""
    last = last_id_of(token)
    if not last:
        return None
    if not last.isdecimal() or int(last) > _LARGEST_NUMBER:
        raise wrong_token()
    return int(last)


def wrong_token() -> InvalidInput:
    """The error for a token that no page gave out, or whose entry is gone."""
    return InvalidInput("is not one of an answer before; list from the start", field="page_token")
