"""RPCs about runs: submitted, looked at, watched, commanded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Protocol

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore
from baldistill.errors import InvalidInput, NotKnown
from baldistill.events.facts import RunState
from baldistill.pricing.book import PriceBook
from baldistill.rpc.callers import current_caller, require_tenant
from baldistill.rpc.pages import last_id_of, page_size, page_token, wrong_token
from baldistill.specs.frozen import load_frozen_run
from baldistill.specs.loading import parse_runspec
from baldistill.v1 import policy_pb2
from services.policy.ports import BaseModelCatalogue, Money, RunRecord, RunRegistry
from services.policy.pricing import price_plan
from services.policy.run_commands import RunCommands
from services.policy.servers.messages import (
    preview_message,
    progress_message,
    run_message,
    state_of,
    timestamp,
)
from services.policy.submission import Proposal, find_frozen, frozen_version, propose, submit, with_version
from services.policy.watching import RunWatch, RunWatchers

# A watcher that missed a fact sees the run's state after this all the same.
_LOOK_AGAIN_S = 5.0
# How soon a caller who left is noticed.
_WAIT_S = 1.0
_SPEC = "spec"


class Call(Protocol):
    """What a stream wants to know of its call."""

    def is_active(self) -> bool:
        """Tell whether anybody still waits."""


class RunMethods:
    """The part of the servicer that is about runs. Thread-safe."""

    def __init__(
        self,
        *,
        store: ArtifactStore,
        registry: RunRegistry,
        commands: RunCommands,
        watchers: RunWatchers,
        base_models: BaseModelCatalogue,
        prices: PriceBook,
        now: Callable[[], Any],
    ) -> None:
        self._store = store
        self._registry = registry
        self._commands = commands
        self._watchers = watchers
        self._base_models = base_models
        self._prices = prices
        self._now = now
        # K of a run never changes; a list of runs would read as many files.
        self._stages_of = lru_cache(maxsize=4096)(self._read_stages)

    def SubmitRun(self, request: policy_pb2.SubmitRunRequest, _call: Call) -> policy_pb2.SubmitRunResponse:
        proposal = self._propose(request.spec)
        frozen = proposal.frozen
        known = self._registry.find(tenant=frozen.spec.tenant, run_id=frozen.run_id)
        record, _ = submit(proposal, store=self._store, registry=self._registry, limited=True)
        if not record.announced:
            record = self._commands.announce(record)
        return policy_pb2.SubmitRunResponse(run=self._message(record), created=known is None)

    def PreviewPlan(self, request: policy_pb2.PreviewPlanRequest, _call: Call) -> policy_pb2.PreviewPlanResponse:
        return preview_message(price_plan(self._propose(request.spec)))

    def GetRun(self, request: policy_pb2.GetRunRequest, _call: Call) -> policy_pb2.GetRunResponse:
        return policy_pb2.GetRunResponse(run=self._message(self._own_run(request.tenant, request.run_id)))

    def ListRuns(self, request: policy_pb2.ListRunsRequest, _call: Call) -> policy_pb2.ListRunsResponse:
        require_tenant(request.tenant)
        size, after = page_size(request.page_size), None
        if request.page_token:
            after = self._registry.find(tenant=request.tenant, run_id=last_id_of(request.page_token))
            if after is None:
                raise wrong_token()
        # One more than asked for tells whether there is another page.
        found = self._registry.page(tenant=request.tenant, states=_states(request.states), size=size + 1, after=after)
        return policy_pb2.ListRunsResponse(
            runs=[self._message(record) for record in found[:size]],
            next_page_token=page_token(found[size - 1].run_id) if len(found) > size else "",
        )

    def PauseRun(self, request: policy_pb2.PauseRunRequest, _call: Call) -> policy_pb2.PauseRunResponse:
        record = self._own_run(request.tenant, request.run_id)
        paused = self._commands.pause(tenant=record.tenant, run_id=record.run_id, reason=request.reason)
        return policy_pb2.PauseRunResponse(run=self._message(paused))

    def ResumeRun(self, request: policy_pb2.ResumeRunRequest, _call: Call) -> policy_pb2.ResumeRunResponse:
        record = self._own_run(request.tenant, request.run_id)
        add = Money(calls=request.add_calls, tokens=request.add_tokens, nano_usd=request.add_nano_usd)
        resumed = self._commands.resume(
            tenant=record.tenant,
            run_id=record.run_id,
            add=None if add == Money() else add,
            request_id=request.request_id,
        )
        return policy_pb2.ResumeRunResponse(run=self._message(resumed))

    def CancelRun(self, request: policy_pb2.CancelRunRequest, _call: Call) -> policy_pb2.CancelRunResponse:
        record = self._own_run(request.tenant, request.run_id)
        cancelled = self._commands.cancel(tenant=record.tenant, run_id=record.run_id, reason=request.reason)
        return policy_pb2.CancelRunResponse(run=self._message(cancelled))

    def WatchRun(self, request: policy_pb2.WatchRunRequest, call: Call) -> Iterator[policy_pb2.WatchRunResponse]:
        self._own_run(request.tenant, request.run_id)
        shown = None
        with self._watchers.watch(tenant=request.tenant, run_id=request.run_id) as watch:
            while call.is_active():
                record = self._own_run(request.tenant, request.run_id)
                if record != shown:
                    shown = record
                    yield policy_pb2.WatchRunResponse(time=timestamp(self._now()), run=self._message(record))
                if record.state.is_final:
                    return
                yield from self._progress_until_changed(watch, call)

    def _progress_until_changed(self, watch: RunWatch, call: Call) -> Iterator[policy_pb2.WatchRunResponse]:
        look_again_at_s = time.monotonic() + _LOOK_AGAIN_S
        while call.is_active() and time.monotonic() < look_again_at_s:
            is_changed, progress = watch.wait(timeout_s=_WAIT_S)
            for fact in progress:
                yield policy_pb2.WatchRunResponse(time=timestamp(self._now()), progress=progress_message(fact))
            if is_changed:
                return

    def _propose(self, text: str) -> Proposal:
        spec = parse_runspec(text, path=_SPEC, tenant=current_caller().tenant)
        require_tenant(spec.tenant)
        known = find_frozen(spec, store=self._store, registry=self._registry)
        if spec.dataset.version is None:
            version = frozen_version(spec, known)
            spec = spec if version is None else with_version(spec, version)
        return propose(spec, store=self._store, base_models=self._base_models, prices=self._prices, known=known)

    def _own_run(self, tenant: str, run_id: str) -> RunRecord:
        """Return a run that the caller may see. Raises NotKnown alike for what is not there and what is not theirs."""
        caller = current_caller()
        record = self._registry.find(tenant=tenant, run_id=run_id)
        if record is None or not (caller.is_admin or caller.tenant == tenant):
            raise NotKnown(kind="run", name=run_id, remedy=f"see `baldistill runs list` of tenant '{tenant}'")
        return record

    def _message(self, record: RunRecord) -> policy_pb2.Run:
        return run_message(record, stages=self._stages_of(record.spec))

    def _read_stages(self, spec: ArtifactRef) -> int:
        return load_frozen_run(self._store, spec).spec.stages


def _states(numbers: Any) -> list[RunState]:
    states = [state_of(number) for number in numbers]
    if None in states:
        raise InvalidInput("has a state that no run can be in", field="states")
    return [state for state in states if state is not None]
