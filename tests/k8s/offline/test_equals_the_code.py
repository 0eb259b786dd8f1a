"""Environment names, ports, topics, groups, images and permissions of the manifests are the code's."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import baldistill.local_stack.layout as stack_layout
from baldistill.environment import load_settings
from baldistill.events.facts import ScoringShardPlanned
from baldistill.jobs.cluster import manifests, pod_main
from baldistill.jobs.registry import JobState
from baldistill.mounted_secrets import FOLDER_VARIABLE
from baldistill.runtime.launching import JobKind
from baldistill.settings import ProcessSettings
from baldistill.telemetry.metrics_page import MetricsPage
from baldistill.v1 import policy_pb2, selector_pb2, teacher_gateway_pb2, trainer_pb2
from services.policy.settings import PolicySettings
from services.selector.settings import SelectorSettings, SelectorWorkerSettings
from services.teacher_gateway.settings import TeacherGatewaySettings
from services.trainer.job_pod import JobPodSettings
from services.trainer.settings import ClusterJobSettings, TrainerSettings
from tests.k8s.rendering import KUSTOMIZATIONS, ROOT, Document, Workload, of_kind, rendered, workloads

every = pytest.mark.parametrize("kustomization", KUSTOMIZATIONS, ids=str)

SETTINGS: dict[str, type[Any]] = {
    "policy": PolicySettings,
    "selector": SelectorSettings,
    "selector-worker": SelectorWorkerSettings,
    "teacher-gateway": TeacherGatewaySettings,
    "trainer": TrainerSettings,
    "training": JobPodSettings,
}
FACES = {
    "policy": policy_pb2,
    "selector": selector_pb2,
    "teacher-gateway": teacher_gateway_pb2,
    "trainer": trainer_pb2,
}
# Libraries', not ours.
_FOREIGN = {"HF_HUB_OFFLINE", "HOME", "OMP_WAIT_POLICY", "XDG_CACHE_HOME"}


def variables_of(kind: type[BaseModel], prefix: str = "BALDISTILL_") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from variables_of(section, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper()


def environment_of(workload: Workload, documents: tuple[Document, ...]) -> dict[str, str]:
    """What a container is told, as the kubelet would."""
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(documents, "ConfigMap")}
    (container,) = workload.pod["spec"]["containers"]
    told: dict[str, str] = {}
    for source in container.get("envFrom", []):
        told |= maps[source["configMapRef"]["name"]]
    return told | {one["name"]: one["value"] for one in container.get("env", [])}


def ours(kustomization: Path) -> Iterator[tuple[Workload, dict[str, str]]]:
    documents = rendered(kustomization)
    for workload in workloads(documents):
        if workload.name in SETTINGS:
            yield workload, environment_of(workload, documents)


@every
def test_every_name_in_the_environment_is_a_setting(kustomization: Path) -> None:
    known = {FOLDER_VARIABLE, *_FOREIGN}
    for kind in SETTINGS.values():
        known |= set(variables_of(kind))
    for workload, told in ours(kustomization):
        assert set(told) <= known
        (container,) = workload.pod["spec"]["containers"]
        own = {one["name"] for one in container.get("env", [])}
        assert own <= set(variables_of(SETTINGS[workload.name])), workload.name


@every
def test_every_process_reads_its_settings(kustomization: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "BALDISTILL_DATABASE__URL").write_text("postgresql+psycopg://services@db/baldistill")
    seen = set()
    for workload, told in ours(kustomization):
        with monkeypatch.context() as patched:
            for name, value in told.items():
                patched.setenv(name, value)
            (mount,) = (
                one["mountPath"]
                for one in workload.pod["spec"]["containers"][0]["volumeMounts"]
                if one["name"] == "secrets"
            )
            assert told[FOLDER_VARIABLE] == mount
            patched.setenv(FOLDER_VARIABLE, str(tmp_path))
            settings = load_settings(SETTINGS[workload.name])
        assert str(settings.store.cache).startswith("/var/cache/baldistill/")
        if isinstance(settings, ProcessSettings):
            assert settings.migrate_at_start is False
            # Bytes and the rest of what a process keeps must fit into what its folder may hold.
            (cache,) = (one for one in workload.pod["spec"]["volumes"] if one["name"] == "cache")
            assert settings.store.cache_bytes < int(cache["emptyDir"]["sizeLimit"].removesuffix("Gi")) << 30
        seen.add(workload.name)
    assert seen == set(SETTINGS)


@every
def test_processes_listen_where_probes_services_and_each_other_look(kustomization: Path) -> None:
    ports: dict[str, int] = {}
    for workload, told in ours(kustomization):
        (container,) = workload.pod["spec"]["containers"]
        named = {one["name"]: one["containerPort"] for one in container.get("ports", [])}
        if workload.kind == "Deployment":
            assert told["BALDISTILL_SERVER__METRICS_LISTEN"] == f"0.0.0.0:{named['metrics']}"
        if workload.name in FACES:
            assert told["BALDISTILL_SERVER__LISTEN"] == f"0.0.0.0:{named['grpc']}"
            ports[workload.name] = named["grpc"]
            http = told.get("BALDISTILL_HTTP__LISTEN", "")
            assert http == (f"0.0.0.0:{named['http']}" if workload.name == "teacher-gateway" else "")
            _check_probes(workload.name, container, has_tls="BALDISTILL_SERVER__TLS_KEY" in told)
    for _workload, told in ours(kustomization):
        assert told["BALDISTILL_POLICY__ENDPOINT"] == f"policy:{ports['policy']}"
        assert told["BALDISTILL_GATEWAY__ENDPOINT"] == f"teacher-gateway:{ports['teacher-gateway']}"


def _check_probes(name: str, container: Document, *, has_tls: bool) -> None:
    if has_tls:
        paths = [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
        assert paths == ["/healthz", "/readyz"]
        return
    (service,) = FACES[name].DESCRIPTOR.services_by_name.values()
    assert container["readinessProbe"]["grpc"]["service"] == service.full_name
    # Liveness asks for the process alone: something else that is away is no reason to restart it.
    assert "service" not in container["livenessProbe"]["grpc"]
    assert container["livenessProbe"]["grpc"]["port"] == container["readinessProbe"]["grpc"]["port"]


def test_the_metrics_page_has_the_paths_that_probes_and_scrapes_ask_for() -> None:
    source = Path(str(MetricsPage._answer.__code__.co_filename)).read_text()
    assert all(f'"{path}"' in source for path in ("/metrics", "/healthz", "/readyz"))


@every
def test_commands_start_the_modules_that_the_local_stack_starts(kustomization: Path) -> None:
    modules = dict(stack_layout.SERVICES) | {"training": "services.trainer.job_pod"}
    for workload, _told in ours(kustomization):
        assert workload.pod["spec"]["containers"][0]["command"] == ["python", "-m", modules[workload.name]]


def test_scaling_follows_the_group_the_topic_and_the_table_of_the_code() -> None:
    (scaled,) = of_kind(rendered(Path("overlays/production")), "ScaledObject")
    shards, scorings = (trigger["metadata"] for trigger in scaled["spec"]["triggers"])
    assert shards["topic"] == ScoringShardPlanned.TOPIC
    assert f'name="{shards["consumerGroup"]}"' in (ROOT / "services/selector/composition.py").read_text()
    assert (shards["lagThreshold"], shards["offsetResetPolicy"]) == ("1", "earliest")
    assert scaled["spec"]["minReplicaCount"] == 0
    told = {name: value for one, env in ours(Path("overlays/production")) for name, value in env.items()}
    assert shards["bootstrapServers"] == told["BALDISTILL_KAFKA__BOOTSTRAP_SERVERS"]
    assert shards["sasl"] == told["BALDISTILL_KAFKA__SASL_MECHANISM"].lower().replace("-", "_").replace("sha_", "sha")
    partitions = ProcessSettings.model_fields["kafka"].get_default(call_default_factory=True).partitions
    assert scaled["spec"]["maxReplicaCount"] <= int(told.get("BALDISTILL_KAFKA__PARTITIONS", partitions))
    query = f"SELECT count(*) FROM jobs WHERE kind = '{JobKind.SCORE.value}' AND state = '{JobState.OPEN.value}'"
    assert scorings["query"] == query


@every
def test_each_image_is_a_target_of_the_dockerfile_or_a_pinned_server(kustomization: Path) -> None:
    build = (ROOT / "Dockerfile").read_text()
    (known,) = re.findall(r"^# SERVICE: (.*)$", build, re.MULTILINE)
    versions = tomllib.loads((ROOT / "libs/baldistill/local_stack/versions.toml").read_text())
    images = {
        container["image"] for workload in workloads(rendered(kustomization)) for container in workload.containers
    }
    for image in images:
        name, _, tag = image.rpartition(":")
        match name.split("/")[-2:]:
            case ["baldistill", "minio"]:
                assert versions["minio"]["version"] in (ROOT / "k8s/images/minio.Dockerfile").read_text()
            case ["baldistill", service]:
                assert service in known.split(", ")
            case ["apache", "kafka"]:
                assert tag == versions["kafka"]["version"]
            case _:
                assert (name, tag) == ("postgres", "15")


@every
def test_the_template_of_trainings_is_what_the_launcher_looks_for(kustomization: Path) -> None:
    (template,) = of_kind(rendered(kustomization), "CronJob")
    assert template["spec"]["suspend"] is True
    assert template["metadata"]["name"] == ClusterJobSettings().template
    spec = template["spec"]["jobTemplate"]["spec"]
    assert [one["name"] for one in spec["template"]["spec"]["containers"]] == [manifests.CONTAINER]
    rules: dict[str, list[int]] = {rule["action"]: [] for rule in spec["podFailurePolicy"]["rules"]}
    for rule in spec["podFailurePolicy"]["rules"]:
        rules[rule["action"]] += rule.get("onExitCodes", {}).get("values", [])
    assert rules == {"Ignore": [pod_main.STOPPED]}
    # The registry of jobs counts failures; the cluster begins only what was disrupted anew.
    assert spec["backoffLimit"] == 0
    told = dict(ours_by_name(kustomization))["trainer"]
    assert told["BALDISTILL_JOBS__LAUNCHER"] == "kubernetes"


def ours_by_name(kustomization: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for workload, told in ours(kustomization):
        yield workload.name, told


@every
def test_the_trainers_role_is_what_the_launcher_asks_for(kustomization: Path) -> None:
    source = (ROOT / "libs/baldistill/jobs/cluster/api.py").read_text()
    verbs = {"create": ["create"], "read": ["get"], "list": ["list"], "delete": ["delete"]}
    asked: set[tuple[str, str]] = set()
    for verb, thing in re.findall(r"\b(create|read|list|delete)_namespaced_(\w+)", source):
        asked |= {(thing.replace("_", "") + "s", one) for one in verbs[verb]}
    if "watch.Watch()" in source:
        asked.add(("jobs", "watch"))
    (role,) = of_kind(rendered(kustomization), "Role")
    granted = {(thing, verb) for rule in role["rules"] for thing in rule["resources"] for verb in rule["verbs"]}
    assert granted == asked
    (named,) = (rule["resourceNames"] for rule in role["rules"] if rule["resources"] == ["cronjobs"])
    assert named == [ClusterJobSettings().template]
    (binding,) = of_kind(rendered(kustomization), "RoleBinding")
    assert [(one["name"], one["namespace"]) for one in binding["subjects"]] == [("trainer", "baldistill")]
