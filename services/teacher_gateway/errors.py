"""What can be wrong with a budget or a teacher, and what a person does about it."""

from __future__ import annotations

from baldistill.errors import NotAllowedNow, PermanentError, RetryableError, RunOnHold
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ledger.holds import Refused


class BudgetMissing(PermanentError):
    """Money is asked for from a budget that nobody made."""

    def __init__(self, *, path: BudgetPath) -> None:
        super().__init__(
            f"there is no budget for {path}; make it (`baldistill budget create`), or submit its run again"
        )
        self.path = path


class BudgetExhausted(PermanentError):
    """A ceiling is reached and the run is to wait for a top-up."""

    exit_code = 77  # EX_NOPERM

    def __init__(self, refused: Refused) -> None:
        super().__init__(
            f"the budget of {refused.path} is exhausted: {refused.asked} {refused.unit} asked,"
            f" {refused.spent} of {refused.ceiling} spent, {refused.held} held;"
            f" raise its ceiling of {refused.unit} (`baldistill budget top-up`) and run it again: what was answered is kept"
        )
        self.refused = refused


class BudgetFrozen(RunOnHold):
    """A person paused or cancelled what this budget pays for."""

    def __init__(self, *, path: BudgetPath) -> None:
        super().__init__(f"the budget of {path} is frozen; resume the run to go on")
        self.path = path


class AllBudgetsFrozen(RunOnHold):
    """The gate before all budgets is closed: the database was restored, or an operator closed it (ADR 51)."""

    exit_code = 77  # EX_NOPERM

    def __init__(self, *, reason: str) -> None:
        super().__init__(
            f"all budgets are frozen ({reason}); `baldistill budget reconcile` books what the provider counted and"
            " opens them"
        )
        self.reason = reason


class NotFrozen(NotAllowedNow):
    """The provider's figures can only be compared while nothing is spent."""

    def __init__(self) -> None:
        super().__init__(
            "budgets are in use; freeze all of them first (`baldistill budget freeze --all`), then take the provider's figures"
        )


class CallsUnderWay(NotAllowedNow):
    """Of calls that are under way nobody knows yet whether the provider's figures have them."""

    def __init__(self, *, path: BudgetPath, calls: int) -> None:
        super().__init__(
            f"{calls} calls of {path} are under way; they end within two leases of a running gateway and their deadline:"
            " take the provider's figures after that"
        )
        self.path = path
        self.calls = calls


class BudgetClosed(PermanentError):
    """The provider billed more than the bound of a call; nothing more is sent until a person has looked."""

    def __init__(self, *, path: BudgetPath) -> None:
        super().__init__(
            f"the budget of {path} is closed: the provider billed above a call's bound; "
            "check that it honours max_completion_tokens, then reopen the budget"
        )
        self.path = path


class CeilingTooLow(PermanentError):
    """A ceiling cannot be set below what is spent and held."""

    def __init__(self, *, path: BudgetPath, unit: str, ceiling: int, used: int) -> None:
        super().__init__(f"the ceiling of {path} cannot be {ceiling} {unit}: {used} are spent or held already")
        self.path = path
        self.unit = unit
        self.ceiling = ceiling
        self.used = used


class FencedOff(NotAllowedNow):
    """A freeze or thaw came after a later one; it must not undo that."""

    def __init__(self, *, path: BudgetPath, fence: int) -> None:
        super().__init__(
            f"the budget of {path} was changed by a later command than this one ({fence}); look at the run"
        )
        self.path = path
        self.fence = fence


class TopUpChanged(NotAllowedNow):
    """The same request id came with another amount."""

    def __init__(self, *, path: BudgetPath, request_id: str) -> None:
        super().__init__(
            f"request '{request_id}' added another amount to the budget of {path} before; use a new request id"
        )
        self.path = path
        self.request_id = request_id


class PromptChanged(PermanentError):
    """A request's prompt is not the one that its key was first reserved with."""

    def __init__(self, *, request_key: str) -> None:
        super().__init__(
            f"request {request_key[:12]} was sent with another prompt before; a run's spec, data and code must not"
            " change: start a new run under another name"
        )
        self.request_key = request_key


class TeacherRefused(PermanentError):
    """The teacher answered in a way that trying again does not change: wrong key, unknown model."""

    def __init__(self, *, url: str, status: int, detail: str) -> None:
        super().__init__(f"the teacher at {url} refused with status {status}: {detail}; check key and model")
        self.url = url
        self.status = status


class TeacherFailing(RetryableError):
    """The teacher is there but answered not one request of a shard."""

    def __init__(self, *, url: str, reason: str, requests: int) -> None:
        super().__init__(f"the teacher at {url} answered none of {requests} requests ({reason})")
        self.url = url
        self.reason = reason
        self.requests = requests


class TeacherRejected(PermanentError):
    """The teacher will not answer this request, however often it is sent."""

    def __init__(self, *, url: str, reason: str) -> None:
        super().__init__(f"the teacher at {url} rejected the request ({reason}); change it")
        self.url = url
        self.reason = reason
