"""A stack under a Prometheus with our rules, and runs and calls on it that give every panel something to show."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baldistill.bus.ports import Message
from baldistill.errors import NotKnown
from baldistill.events.facts import RunState, StagePlanned
from baldistill.local_stack.prometheus import Prometheus
from baldistill.testing.tiny_student import build_tiny_student
from baldistill.v1 import policy_pb2, policy_pb2_grpc
from scripts.monitoring.rules import read_rules
from tests.stack.stack_home import StackHome
from tests.stack.workload import SIZES, Workload

TENANT_CALLS = 1000
_PRICE = {"input_usd_per_million_tokens": 2, "output_usd_per_million_tokens": 8}
# Head and tail need 30 test items each before there is a mean of them.
_TEST_ITEMS_A_DOMAIN = 20
_FACE_LOGGED = "http face listens"
_HTTP_CALLS = 12
# With a student that learns: as in examples/tickets.yaml.
_LEARNING = {
    "threads": 2,
    "selection": {"candidates_per_pick": 2, "max_new_tokens": 16, "rows_per_shard": 8},
}
_TRAINING = {"epochs": 3, "batch_size": 4, "micro_batch_size": 4, "learning_rate": 0.002}
_RUN_PATIENCE_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitored:
    """A stack, its Prometheus, and the runs that can be made on it. student: a base model that learns; empty: the tiny one."""

    home: StackHome
    prometheus: Prometheus
    workload: Workload
    folder: Path
    student: str = ""

    @property
    def gateway(self) -> str:
        """Return the address of a gateway's gRPC."""
        return f"127.0.0.1:{self.home.layout.services['teacher-gateway'].rpc}"

    def give_tenant_a_budget(self) -> None:
        """Limit the tenant in every unit, so that there is something left of each."""
        self._budget("create", "--calls", str(TENANT_CALLS), "--tokens", "10000000", "--usd", "10", "--window", "month")

    def lower_tenant_budget(self, *, calls: int) -> None:
        """Leave the tenant this ceiling in calls."""
        self._budget("set", "--calls", str(calls))

    def spent_by(self, run_id: str = "") -> dict[str, int]:
        """Return what `budget show` says is spent, by unit. run_id: empty = the tenant."""
        shown = self._budget("show", *([run_id] if run_id else []))
        scope = "run" if run_id else "tenant"
        (status,) = (one for one in shown if one["scope"] == scope)
        return {unit: int(status[unit]["spent"]) for unit in ("calls", "tokens", "nano_usd")}

    def run_to_the_end(self, number: int) -> str:
        """Make a run, priced and with a test set; it takes over what an earlier one has bought. Return its id."""
        test = self._test_items()
        dataset = {"name": "tickets", "train": str(self.workload.folder / "train.jsonl"), "test": str(test)}
        spec = self.workload.spec(
            number,
            under=self.folder / "specs",
            dataset=dataset,
            teacher=self.workload.teacher_spec(price=_PRICE, reuse="tenant"),
            evaluation={
                "per_domain": _TEST_ITEMS_A_DOMAIN,
                "final": "all",
                "max_new_tokens": 48 if self.student else 4,
            },
            **self._learning(),
        )
        run_id = self.home.submit(spec)
        self.home.wait_for(run_id, RunState.COMPLETED, timeout_s=_RUN_PATIENCE_S)
        return run_id

    def publish_garbage(self) -> None:
        """Have a dead letter wait: bytes that are no fact belong to no run."""
        bus = self.home.open_bus()
        try:
            bus.publish(
                [Message(topic=StagePlanned.TOPIC, key="garbage", value=b"\xff garbage", headers={"ce_id": "g"})]
            )
        finally:
            bus.close()

    def call_and_fail(self) -> None:
        """Use the HTTP face, well and badly, and ask for a run that is not there."""
        for number in range(_HTTP_CALLS):
            # What the teacher itself fails at is passed on.
            self._complete(f"question {number}", model="protocol", status={200, 500})
            self._complete(f"question {number}", model="none", status={404})
            self._ask_for_a_run_that_is_not_there()

    def _test_items(self) -> Path:
        rows = (
            {
                "id": f"test-{domain}-{n}",
                "domain": domain,
                "input": f"test question {n} about {domain}",
                "answer": domain,
            }
            for domain in SIZES
            for n in range(_TEST_ITEMS_A_DOMAIN)
        )
        path = self.folder / "test.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def _learning(self) -> dict[str, Any]:
        return _LEARNING | {"student": {"base": self.student, "training": _TRAINING}} if self.student else {}

    def _ask_for_a_run_that_is_not_there(self) -> None:
        with self.home.rpc() as client:
            try:
                policy_pb2_grpc.PolicyServiceStub(client.channel).GetRun(
                    policy_pb2.GetRunRequest(tenant="default", run_id="none")
                )
            except NotKnown:
                return
        raise AssertionError("a run that is not there was found")

    def _complete(self, question: str, *, model: str, status: set[int]) -> None:
        body = {"model": model, "max_tokens": 32, "messages": [{"role": "user", "content": question}]}
        headers = {
            "Authorization": f"Bearer {self.home.token}",
            "Content-Type": "application/json",
            "X-BalDistill-Tenant": "default",
        }
        url = f"http://{self._face()}/v1/chat/completions"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers), timeout=30
            ) as answer:
                answered, said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            answered, said = error.code, error.read()
        assert answered in status, said

    def _face(self) -> str:
        lines = self.home.stack.services["teacher-gateway"].log.read_text().splitlines()
        (logged,) = (line for line in lines if _FACE_LOGGED in line)
        return str(json.loads(logged)["address"])

    def _budget(self, *arguments: str) -> Any:
        ended = self.home.command("budget", *arguments, "--endpoint", self.gateway, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)


@contextmanager
def monitored_stack(folder: Path, *, student: str = "") -> Iterator[Monitored]:
    """Start two gateways, one of everything else, and Prometheus with our rules; nothing of it outlives the block."""
    tiny = build_tiny_student(folder / "tiny")
    # Some answers end in another label or cannot be read, and some calls fail, as with every teacher.
    behaviour = {"wrong_label_share": 0.06, "unparsable_share": 0.06, "server_error_share": 0.05}
    with Workload(folder / "workload", student=tiny, stages=3, behaviour=behaviour) as workload:
        served = [{"teacher": workload.teacher_spec(price=_PRICE)}]
        home = StackHome(
            folder / "stack",
            replicas={"teacher-gateway": 2},
            environment={"BALDISTILL_HTTP__LISTEN": "127.0.0.1:0", "BALDISTILL_HTTP__MODELS": json.dumps(served)},
        )
        prometheus = home.stack.servers["prometheus"]
        assert isinstance(prometheus, Prometheus)
        prometheus.use_rules(read_rules().document)
        with home:
            yield Monitored(home=home, prometheus=prometheus, workload=workload, folder=folder, student=student)
