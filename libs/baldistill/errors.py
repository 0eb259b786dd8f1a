"""Errors carry data and a verdict: may the same work be tried again or not?

The runtime asks only for the verdict; people read the message, which says what to do.
"""

from __future__ import annotations

from pathlib import Path


class BalDistillError(Exception):
    """Base of every error that BalDistill raises on purpose."""

    exit_code = 1


class RetryableError(BalDistillError):
    """The same work may succeed later; the runtime tries again."""


class PermanentError(BalDistillError):
    """The same work fails again until something outside it changes; never tried again."""


class DependencyUnavailable(RetryableError):
    """A broker, store, database or teacher is away: consumption pauses and no try is counted (DESIGN 3)."""

    exit_code = 69  # EX_UNAVAILABLE

    def __init__(self, *, dependency: str, reason: str) -> None:
        super().__init__(f"{dependency} is not reachable: {reason}")
        self.dependency = dependency
        self.reason = reason


class RunOnHold(RetryableError):
    """Somebody holds this run; its state is about to say so. Its work waits uncounted, other runs go on."""


class InvalidInput(PermanentError):
    """Something a person wrote is wrong. Names file, line and field; nothing was changed."""

    exit_code = 65  # EX_DATAERR

    def __init__(
        self,
        reason: str,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (path, line) if part is not None)
        named_field = f"field '{field}': " if field else ""
        super().__init__(f"{place}: {named_field}{reason}" if place else f"{named_field}{reason}")
        self.reason = reason
        self.path = path
        self.line = line
        self.field = field


class RunLocked(BalDistillError):
    """Another process on this machine works on the same run."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, *, run_id: str, owner_pid: int | None) -> None:
        who = f"process {owner_pid}" if owner_pid else "another process"
        super().__init__(f"run '{run_id}' is being worked on by {who}; wait for it or stop it first")
        self.run_id = run_id
        self.owner_pid = owner_pid


class StorageFull(RetryableError):
    """No space is left where artifacts or the database live; what was stored stays valid."""

    exit_code = 74  # EX_IOERR

    def __init__(self, *, path: Path | str) -> None:
        super().__init__(f"no space left on the device that holds {path}; free some and run the same command again")
        self.path = path


class ArtifactMissing(PermanentError):
    """An artifact that a manifest or an event names is not in the store."""

    exit_code = 66  # EX_NOINPUT

    def __init__(self, *, key: str) -> None:
        super().__init__(f"artifact {key} is missing from the store")
        self.key = key


class ArtifactCorrupt(PermanentError):
    """An artifact's bytes are not those that were stored."""

    exit_code = 65

    def __init__(self, *, key: str, expected_sha256: str, actual_sha256: str) -> None:
        super().__init__(
            f"artifact {key} is corrupt: sha256 {actual_sha256[:12]}, expected {expected_sha256[:12]};"
            " restore it from a copy, or delete the run and start it anew"
        )
        self.key = key
        self.expected_sha256 = expected_sha256
        self.actual_sha256 = actual_sha256


class StoreAccessDenied(PermanentError):
    """The artifact store refuses this process a key: its policy has no such right."""

    exit_code = 77  # EX_NOPERM

    def __init__(self, *, access_key: str, key: str) -> None:
        super().__init__(
            f"the artifact store refuses '{access_key}' access to {key}; its policy must allow it (docs/reference/store.md)"
        )
        self.access_key = access_key
        self.key = key


class UndecodableMessage(PermanentError):
    """A message's bytes are not the fact that its topic promises; it belongs to no run."""

    def __init__(self, *, topic: str, reason: str) -> None:
        super().__init__(f"message on {topic} cannot be decoded: {reason}")
        self.topic = topic
        self.reason = reason


class NotKnown(PermanentError):
    """What a caller names is not there, or is not theirs: both look the same, so that nobody learns of others' runs."""

    exit_code = 66  # EX_NOINPUT

    def __init__(self, *, kind: str, name: str, remedy: str = "") -> None:
        super().__init__(f"no {kind} '{name}'" + (f"; {remedy}" if remedy else ""))
        self.kind = kind
        self.name = name


class AlreadyThere(PermanentError):
    """A name is taken by something else than what was asked for."""

    exit_code = 73  # EX_CANTCREAT

    def __init__(self, *, kind: str, name: str, difference: str) -> None:
        super().__init__(f"{kind} '{name}' is there already: {difference}")
        self.kind = kind
        self.name = name


class NotAllowedNow(PermanentError):
    """The request is sound, but not in the state that things are in. The message says what would change that."""

    exit_code = 75  # EX_TEMPFAIL


class LimitReached(RetryableError):
    """A quota of the caller's is used up: runs at once, message size, a budget."""

    exit_code = 77  # EX_NOPERM


class Unauthenticated(PermanentError):
    """There is no token, or it stands for nobody."""

    exit_code = 77

    def __init__(self, reason: str = "no bearer token was sent") -> None:
        super().__init__(f"{reason}; set BALDISTILL_TOKEN to a token made by `baldistill tenant create`")


class AccessDenied(PermanentError):
    """A token stands for somebody who may not do this."""

    exit_code = 77

    def __init__(self, *, subject: str, tenant: str) -> None:
        super().__init__(f"'{subject}' may not act for tenant '{tenant}'")
        self.subject = subject
        self.tenant = tenant
