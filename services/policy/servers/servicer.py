"""PolicyService, put together from its parts. Plain methods: the framework authenticates and gives errors a status."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from baldistill.artifacts.ports import ArtifactStore
from baldistill.pricing.book import PriceBook
from baldistill.rpc.routes import BoundService
from baldistill.runtime.handlers import PublishFacts
from baldistill.v1 import policy_pb2_grpc
from services.policy.letters import DeadLetterBox
from services.policy.ports import BaseModelCatalogue, RunRegistry
from services.policy.run_commands import RunCommands
from services.policy.servers.letters import LetterMethods
from services.policy.servers.runs import RunMethods
from services.policy.servers.tenants import TenantMethods
from services.policy.tenants import TenantRegistry
from services.policy.watching import RunWatchers

SERVICE_NAME = "baldistill.v1.PolicyService"


class PolicyServicer(RunMethods, TenantMethods, LetterMethods, policy_pb2_grpc.PolicyServiceServicer):
    """Answers all RPCs of PolicyService. Thread-safe."""

    def __init__(
        self,
        *,
        store: ArtifactStore,
        registry: RunRegistry,
        tenants: TenantRegistry,
        letters: DeadLetterBox,
        commands: RunCommands,
        watchers: RunWatchers,
        base_models: BaseModelCatalogue,
        prices: PriceBook,
        publish: PublishFacts,
        now: Callable[[], datetime],
    ) -> None:
        """now: aware UTC time, for the updates of a watch."""
        RunMethods.__init__(
            self,
            store=store,
            registry=registry,
            commands=commands,
            watchers=watchers,
            base_models=base_models,
            prices=prices,
            now=now,
        )
        TenantMethods.__init__(self, tenants=tenants)
        LetterMethods.__init__(self, letters=letters, commands=commands, publish=publish, store=store)


def bound(servicer: PolicyServicer) -> BoundService:
    """Return the servicer as a server takes it."""
    return BoundService(name=SERVICE_NAME, servicer=servicer, add=policy_pb2_grpc.add_PolicyServiceServicer_to_server)
