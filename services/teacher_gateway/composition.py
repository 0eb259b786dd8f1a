"""Wires the teacher gateway: ledger, teachers, keeper, and which group handles which fact."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import grpc
from sqlalchemy import Engine

from baldistill.artifacts.ports import ArtifactStore
from baldistill.database.clock import DatabaseClock
from baldistill.datasets.storage import iter_examples, load_dataset
from baldistill.events.facts import AnnotationShardPlanned, ExamplesSelected, RunSubmitted, ShardAnnotated
from baldistill.rpc.routes import BoundService
from baldistill.rpc.status_codes import STATUS_CODES
from baldistill.runtime.handlers import ConsumerGroup
from baldistill.runtime.progress import ProgressSource, no_progress_of_any
from baldistill.specs.frozen import FrozenRun
from baldistill.specs.methods import Target
from baldistill.specs.runspec import KeyLimitsSpec, TeacherSpec
from baldistill.v1 import teacher_gateway_pb2_grpc
from services.teacher_gateway.adapters.forwarding_callers import ForwardingCallers
from services.teacher_gateway.adapters.sql_gate import SqlBudgetGate
from services.teacher_gateway.adapters.sql_ledger import DEFAULT_LEASE_S, SqlLedger, read_budget_tree
from services.teacher_gateway.adapters.sql_limits import SqlLimitStore
from services.teacher_gateway.adapters.sql_paid_answers import SqlPaidAnswers
from services.teacher_gateway.adapters.sql_reconciling import SqlReconciler
from services.teacher_gateway.adapters.sql_replies import count_replies, delete_replies
from services.teacher_gateway.adapters.teacher_directory import TeacherDirectory
from services.teacher_gateway.bookings import PendingBookings
from services.teacher_gateway.caller import TeacherCaller
from services.teacher_gateway.completions import Completions
from services.teacher_gateway.draining import Drain
from services.teacher_gateway.effects import ThreadEffects
from services.teacher_gateway.errors import AllBudgetsFrozen, BudgetExhausted, BudgetFrozen, BudgetMissing
from services.teacher_gateway.handlers import (
    on_annotation_shard_planned,
    on_examples_selected,
    on_run_submitted,
    on_shard_annotated,
)
from services.teacher_gateway.keeper import LedgerKeeper
from services.teacher_gateway.ledger.budgets import BudgetPath, BudgetStatus
from services.teacher_gateway.ledger.holds import Attempt
from services.teacher_gateway.limits.desk import DEFAULT_QUEUE, LimitDesk
from services.teacher_gateway.limits.gate import PurchaseGate
from services.teacher_gateway.observing import CallObserver, NobodyObserves
from services.teacher_gateway.ports import BudgetGate, Ledger, Reconciler, Teachers
from services.teacher_gateway.preflight import check_teacher
from services.teacher_gateway.requests import annotation_request
from services.teacher_gateway.reuse import find_reusable
from services.teacher_gateway.run_budgets import asks_the_teacher, ensure_run_budget, run_path
from services.teacher_gateway.servers.servicer import TeacherGatewayServicer

# What this service's own errors are to a caller; the rest of the table is everybody's.
STATUSES = STATUS_CODES.with_rows(
    {
        BudgetMissing: grpc.StatusCode.NOT_FOUND,
        BudgetExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
        BudgetFrozen: grpc.StatusCode.FAILED_PRECONDITION,
        AllBudgetsFrozen: grpc.StatusCode.FAILED_PRECONDITION,
    }
)

# A person who pressed Ctrl-C waits; most answers come within this, and a lost one is spent at its bound.
_GRACE_S = 10.0


class TeacherGateway:
    """The composed gateway. groups: what is to be consumed.   ledger: budgets, for the command line and RPCs.

    forwarding: callers for the HTTP face (servers/openai/opening.py).
    """

    def __init__(
        self,
        *,
        groups: list[ConsumerGroup],
        ledger: Ledger,
        budget_gate: BudgetGate,
        reconciler: Reconciler,
        teachers: Teachers,
        caller_for: Callable[[TeacherSpec, str], TeacherCaller],
        forwarding: ForwardingCallers,
        drain: Drain,
        desk: LimitDesk,
        gate: PurchaseGate,
        resources: ExitStack,
    ) -> None:
        self.groups = groups
        self.ledger = ledger
        self._budget_gate = budget_gate
        self._reconciler = reconciler
        self._caller_for = caller_for
        self._teachers = teachers
        self.forwarding = forwarding
        self._drain = drain
        self._desk = desk
        self._gate = gate
        self._resources = resources

    def preflight(self, wanted: FrozenRun | TeacherSpec) -> None:
        """Check, before a cent is spent, that a teacher is priced, reachable and takes our key.

        A run whose method makes no call needs no teacher.

        Raises UnpricedTeacher, InvalidInput, TeacherRefused, DependencyUnavailable.
        """
        if isinstance(wanted, TeacherSpec):
            check_teacher(wanted, teachers=self._teachers)
        elif asks_the_teacher(wanted):
            check_teacher(wanted.spec.teacher, teachers=self._teachers)

    def service(self, *, store: ArtifactStore, teacher: TeacherSpec | None) -> BoundService:
        """Return the gRPC face. teacher: of Complete; None: it is refused. Raises UnpricedTeacher."""
        completions = Completions(teacher=teacher, caller_for=self._caller_for)
        return BoundService(
            name="baldistill.v1.TeacherGatewayService",
            servicer=TeacherGatewayServicer(self.ledger, self._budget_gate, self._reconciler, store, completions),
            add=teacher_gateway_pb2_grpc.add_TeacherGatewayServiceServicer_to_server,
        )

    def budgets_are_open(self) -> bool:
        """Tell whether any budget may be used. Raises DependencyUnavailable."""
        return self._budget_gate.read().is_open

    def queued_calls(self) -> int:
        """Return how many calls of this process wait for a slot of their key."""
        return self._desk.queued()

    def open_circuits(self) -> list[str]:
        """Return the teachers that this process leaves alone because they fail."""
        return self._gate.breakers.open_circuits()

    def budget_tree(self, *, tenant: str, run_id: str = "") -> list[BudgetStatus]:
        """Return a run's budget with its stages and domains, or all of a tenant's; empty where there is none yet."""
        return self.ledger.budget_tree(BudgetPath(tenant=tenant, run_id=run_id))

    def attempts(self, *, tenant: str, run_id: str) -> list[Attempt]:
        """Return every attempt of a run, for audits against what the provider saw."""
        return self.ledger.attempts(BudgetPath(tenant=tenant, run_id=run_id))

    def freeze_run(self, frozen: FrozenRun, *, actor: str) -> None:
        """Stop a run's money, also where the run has not asked for any yet."""
        ensure_run_budget(self.ledger, frozen)
        self.ledger.freeze(run_path(frozen), actor=actor)

    def unfreeze_run(self, frozen: FrozenRun, *, actor: str) -> None:
        """Let a run's money go on."""
        ensure_run_budget(self.ledger, frozen)
        self.ledger.unfreeze(run_path(frozen), actor=actor)

    def begin_drain(self) -> None:
        """Begin no further call; what is under way goes on. Returns at once: for a stop that then joins workers."""
        self._drain.begin()

    def close(self) -> None:
        """Wait a little for calls under way, then end this owner and close connections. Idempotent."""
        self._resources.close()


def run_budgets(engine: Engine, *, tenant: str, run_id: str) -> list[BudgetStatus]:
    """Return a run's budget with its stages and domains, for readers that spend nothing; [] where there is none yet."""
    return read_budget_tree(engine, BudgetPath(tenant=tenant, run_id=run_id))


def count_reusable(engine: Engine, frozen: FrozenRun, *, store: ArtifactStore) -> int:
    """Return for how many items of a run's pool its tenant has paid for an annotation already; 0 where none is reused."""
    if frozen.spec.teacher.reuse != "tenant" or frozen.method.target is not Target.RATIONALE:
        return 0
    spec = frozen.spec
    dataset = load_dataset(store, tenant=spec.tenant, name=frozen.dataset.name, version=frozen.dataset.version)
    # Whatever the stage: the prompt of an annotation is the same in all.
    asked = [annotation_request(frozen, stage=1, example=example) for example in iter_examples(store, dataset.pool)]
    return len(find_reusable(frozen, asked, paid=SqlPaidAnswers(engine)))


@contextmanager
def open_ledger(engine: Engine, *, locks: Path | None = None) -> Iterator[Ledger]:
    """Open the ledger alone, for a command that changes budgets and buys nothing."""
    ledger = SqlLedger(engine, lock_folder=locks)
    try:
        yield ledger
    finally:
        ledger.close()


def open_gate(engine: Engine) -> BudgetGate:
    """Return the gate before all budgets alone."""
    return SqlBudgetGate(engine)


def open_reconciler(engine: Engine) -> Reconciler:
    """Return what books a provider's figures."""
    return SqlReconciler(engine)


def count_answers(engine: Engine, *, tenant: str, run_id: str) -> int:
    """Return how many answers a run has stored."""
    return count_replies(engine, BudgetPath(tenant=tenant, run_id=run_id))


def delete_answers(engine: Engine, *, tenant: str, run_id: str, actor: str) -> int:
    """Delete a run's stored answers; what they cost stays in the ledger. Return their number."""
    return delete_replies(engine, BudgetPath(tenant=tenant, run_id=run_id), actor=actor)


def build_teacher_gateway(
    *,
    store: ArtifactStore,
    engine: Engine,
    locks: Path | None = None,
    environment: Mapping[str, str] | None = None,
    teacher_urls: Collection[str] = (),
    progress: ProgressSource = no_progress_of_any,
    clock: DatabaseClock | None = None,
    lease_s: float = DEFAULT_LEASE_S,
    key_limits: Mapping[str, KeyLimitsSpec] | None = None,
    queue: int = DEFAULT_QUEUE,
    observer: CallObserver | None = None,
    trusts_promotions: bool = False,
) -> TeacherGateway:
    """Return the gateway over a migrated database. Ends at once what a killed process on this machine left.

    locks: folder where this process proves that it lives; None: by its lease alone.   environment: holds the API
    keys; default: the process's own.   teacher_urls: the only ones that a teacher may have; empty: any.
    key_limits: the operator's, by the variable of a key.   queue: calls of one key that may wait for them at once.
    trusts_promotions: a standby of the database that took over is said to have had every commit.
    """
    with ExitStack() as resources:
        ledger = SqlLedger(engine, lock_folder=locks, lease_s=lease_s, clock=clock, trusts_promotions=trusts_promotions)
        resources.callback(ledger.close)
        # The first beat also sees whether this is the database of before.
        ledger.beat()
        ledger.sweep(trust_leases=False)
        teachers = TeacherDirectory(
            os.environ if environment is None else environment, store=store, urls=teacher_urls, key_limits=key_limits
        )
        resources.callback(teachers.close)
        bookings = PendingBookings(ledger)
        keeper = LedgerKeeper(ledger=ledger, bookings=bookings, lease_s=lease_s)
        keeper.start()
        resources.callback(keeper.close)
        drain = Drain()
        desk = LimitDesk(SqlLimitStore(engine), queue=queue)
        gate = PurchaseGate(limits=desk)
        resources.callback(gate.close)
        resources.callback(drain.finish, grace_s=_GRACE_S)

        def caller_for(teacher: TeacherSpec, price_version: str, run: FrozenRun | None = None) -> TeacherCaller:
            effects = ThreadEffects(
                ledger=ledger, bookings=bookings, keys=teachers.keys_for(teacher, run=run), gate=gate, drain=drain
            )
            return TeacherCaller(teacher, price_version=price_version, effects=effects, observer=observer)

        work = partial(
            on_annotation_shard_planned,
            store=store,
            ledger=ledger,
            caller_for=lambda frozen: caller_for(frozen.spec.teacher, frozen.price_version, frozen),
            paid=SqlPaidAnswers(engine),
            observer=observer or NobodyObserves(),
            progress=progress,
        )
        groups = [
            ConsumerGroup(
                name="teacher-gateway",
                handlers={
                    RunSubmitted: partial(on_run_submitted, store=store, ledger=ledger),
                    ExamplesSelected: partial(on_examples_selected, store=store, ledger=ledger),
                    ShardAnnotated: partial(on_shard_annotated, store=store, observer=observer or NobodyObserves()),
                },
            ),
            ConsumerGroup(name="teacher-gateway-worker", handlers={AnnotationShardPlanned: work}),
        ]
        return TeacherGateway(
            groups=groups,
            ledger=ledger,
            budget_gate=SqlBudgetGate(engine, clock=clock),
            reconciler=SqlReconciler(engine, clock=clock),
            teachers=teachers,
            caller_for=caller_for,
            forwarding=ForwardingCallers(
                ledger=ledger,
                bookings=bookings,
                gate=gate,
                drain=drain,
                teachers=teachers,
                observer=observer,
            ),
            drain=drain,
            desk=desk,
            gate=gate,
            resources=resources.pop_all(),
        )
