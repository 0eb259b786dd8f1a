"""A trainer process's launcher, a real Job, a real training: its machine is lost, and the student is the same byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.bus.in_process import InProcessBus
from baldistill.events.codec import decode
from baldistill.events.facts import RationalesCollected, StudentTrained
from baldistill.local_stack.server_process import free_port
from baldistill.runtime.launching import Job
from baldistill.runtime.progress import no_progress_of_any
from baldistill.testing.databases import open_test_database
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from baldistill.testing.tiny_student import build_tiny_student
from services.trainer.composition import build_trainer_service
from services.trainer.job import run_job
from services.trainer.settings import TrainerJobSettings
from tests.k8s.cluster.admin import Admin, eventually
from tests.k8s.cluster.kubelet import Kubelet
from tests.k8s.cluster.machines import Machine
from tests.k8s.cluster.tenancy import Applied

_SIZES = {"billing": 9, "login": 6, "delivery": 3}
_TEST = {"billing": 4, "login": 2, "delivery": 1}
_TRAINING = {"epochs": 25, "batch_size": 4, "micro_batch_size": 4, "max_tokens": 256, "checkpoint_every_steps": 20}


# Two starts of torch, and a training between them.
pytestmark = pytest.mark.timeout(1500)


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def in_the_trainers_pod(admin: Admin, production: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process see the cluster as the trainer's pod does: its service account's token, namespace and authority."""
    mounted = {"token": admin.token_of("trainer", production.namespace), "namespace": production.namespace}
    for name, value in mounted.items():
        (tmp_path / name).write_text(value)
    address = urlsplit(admin.configuration.host)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", admin.configuration.ssl_ca_cert)
    monkeypatch.setattr("baldistill.jobs.cluster.api._OWN_NAMESPACE", tmp_path / "namespace")


@pytest.mark.usefixtures("in_the_trainers_pod")
def test_a_training_whose_machine_is_lost_goes_on_in_another_pod_and_ends_in_the_same_bytes(
    admin: Admin, production: Applied, kubelet: Kubelet, tmp_path: Path, resources: ExitStack
) -> None:
    base = build_tiny_student(tmp_path / "base")
    store = LocalArtifactStore(tmp_path / "store")
    run, event = _small_run(store, base)
    bus = resources.enter_context(closing(InProcessBus()))
    heard = bus.consumer(group="test", topics=[StudentTrained.TOPIC])
    machine = Machine(
        admin,
        kubelet,
        namespace=production.namespace,
        folder=tmp_path,
        environment={
            "BALDISTILL_ARTIFACTS_FOLDER": str(tmp_path / "store"),
            "BALDISTILL_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        },
    )
    machine.start()
    resources.callback(machine.close)
    engine = open_test_database(kind="sqlite", location=str(tmp_path))
    resources.callback(engine.dispose)
    trainer = build_trainer_service(
        store=store,
        engine=engine,
        bus=bus,
        progress=no_progress_of_any,
        jobs=TrainerJobSettings(launcher="kubernetes"),
    )
    resources.callback(trainer.close)

    trainer.groups[0].handlers[type(event)](event)
    layout = run.frozen.layout.stage(1)
    eventually("a checkpoint", lambda: list(store.list_manifests(prefix=layout.checkpoints_folder)))
    (first,) = machine.processes
    machine.lose(first)
    delivery = heard.poll(timeout_s=600)

    assert delivery is not None, "nothing was published"
    fact = decode(delivery.message)
    assert isinstance(fact, StudentTrained)
    assert len(machine.processes) == 2
    selector = f"baldistill.io/run={RUN_ID},baldistill.io/tenant={TENANT}"
    (job,) = admin.get("jobs", "-n", production.namespace, "-l", selector)
    assert job["status"]["succeeded"] == 1
    assert _adapter(store, run) == _uninterrupted(tmp_path / "whole", base)


def _small_run(store: LocalArtifactStore, base: Path) -> tuple[SmallRun, RationalesCollected]:
    student = {"base": str(base), "dtype": "float32", "training": _TRAINING}
    run = SmallRun.create(store, base=base, pool=_SIZES, test=_TEST, student=student)
    return run, run.rationales_collected(stage=1, examples=small_examples(_SIZES, prefix="pool1"), epoch=1)


def _adapter(store: LocalArtifactStore, run: SmallRun) -> str:
    manifest = store.find_manifest(run.frozen.layout.stage(1).student)
    assert manifest is not None
    return manifest.files["adapter_model"].sha256


def _uninterrupted(folder: Path, base: Path) -> str:
    store = LocalArtifactStore(folder)
    run, _event = _small_run(store, base)
    job = Job(tenant=TENANT, run_id=RUN_ID, epoch=1, stage=1, spec=run.spec)
    run_job(job, lambda: False, store=store, progress=no_progress_of_any)
    return _adapter(store, run)
