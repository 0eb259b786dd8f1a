"""Which keys a store accepts, and how content-addressed files are told from manifests (DESIGN 5)."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from baldistill.errors import InvalidInput

# Enough of a sha256 that two different files of one folder and name never meet; short enough to read.
NAME_DIGITS = 16

# NAME_MAX of every file system that matters, and far below S3's limit of 1024 for a whole key.
_MAX_PART_BYTES = 255
_CONTENT_ADDRESSED = re.compile(rf"-([0-9a-f]{{{NAME_DIGITS}}})(\.[^/]*)?$")


def checked_key(key: str) -> str:
    """Return `key` where it names a place inside the store. Raises InvalidInput."""
    parts = key.split("/")
    if any(part in {"", ".", ".."} or len(part.encode()) > _MAX_PART_BYTES for part in parts):
        raise InvalidInput(f"'{key}' is not a relative path of plain names", field="key")
    if any(character in key for character in "\\\0\n") or parts[0].startswith("."):
        raise InvalidInput(f"'{key}' has a character or a hidden folder that keys must not have", field="key")
    return key


def content_key(*, folder: str, name: str, sha256: str) -> str:
    """Return `<folder>/<stem>-<sha256[:16]><suffix>`. Raises InvalidInput."""
    path = PurePosixPath(name)
    return checked_key(f"{folder}/{path.stem}-{sha256[:NAME_DIGITS]}{path.suffix}")


def content_digits(key: str) -> str | None:
    """Return the digits of the sha256 that a data file's key carries in its name, else None."""
    found = _CONTENT_ADDRESSED.search(key)
    return found[1] if found else None


def is_manifest_key(key: str) -> bool:
    """Tell whether a key can be a manifest's: `.json` without a content hash in its name."""
    return key.endswith(".json") and _CONTENT_ADDRESSED.search(key) is None


def checked_manifest_key(key: str) -> str:
    """Return `key` where a manifest can lie there. Raises InvalidInput."""
    if not is_manifest_key(key):
        raise InvalidInput(f"'{key}' must end in .json and have no content hash in its name", field="key")
    return checked_key(key)
