"""What the Dockerfile runs, without Docker: each service's install lines in an empty environment, and the service from it.

No image is built here, and none is pulled: that the base image has what its name says is not shown.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import baldistill.local_stack.layout as stack_layout
from baldistill.artifacts.ports import ArtifactRef
from baldistill.local_stack.server_process import free_port
from baldistill.runtime.launching import Job
from tests.k8s.rendering import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES = re.findall(r"^# SERVICE: (.*)$", DOCKERFILE, re.MULTILINE)[0].split(", ")
WITH_TORCH = {"selector-worker", "training"}
# torch and CUDA's libraries are gigabytes.
_INSTALL_TIMEOUT_S = 1800
_START_TIMEOUT_S = 240


def test_the_versions_of_the_build_are_the_projects() -> None:
    (uv,) = re.findall(r"^UV_VERSION := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"uv=={uv}" in DOCKERFILE
    assert set(stack_layout.SERVICES) | {"cli", "training"} == set(SERVICES)


def test_the_build_sees_nothing_but_what_it_copies() -> None:
    """The last stage takes the environment alone; .dockerignore lets through what the first one copies."""
    build, final = DOCKERFILE.split("\nFROM ")[1:]
    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", build, re.MULTILINE) for word in line.split()}
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {path for path in copied if not any(path.startswith(allowed) for allowed in let_through)} == set()
    assert re.findall(r"^COPY (.*)$", final, re.MULTILINE) == ["--from=build /opt/venv /opt/venv"]
    assert "USER 10001:10001" in final


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Dockerfile copies, and nothing else."""
    folder = tmp_path_factory.mktemp("context")
    for name in ("pyproject.toml", "requirements.lock", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("libs", "services", "k8s/images"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


@pytest.fixture(scope="session", params=SERVICES)
def installed(
    request: pytest.FixtureRequest, context: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A service's environment, made by the lines of the Dockerfile."""
    service = str(request.param)
    environment = tmp_path_factory.mktemp(service) / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    # How packages are reached (proxies, authorities) is the machine's; where Python looks for modules is not.
    tools = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    tools["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for line in (
        ["k8s/images/install-dependencies.sh", service, str(python)],
        ["k8s/images/install-project.sh", str(python)],
    ):
        assert line[0] in DOCKERFILE
        done = subprocess.run(
            line, cwd=context, env=tools, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stderr
    yield service, python
    shutil.rmtree(environment)


def ran(python: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=_START_TIMEOUT_S,
        check=False,
    )


@pytest.mark.timeout(_INSTALL_TIMEOUT_S)
def test_torch_is_there_where_it_is_needed_and_nowhere_else(installed: tuple[str, Path]) -> None:
    service, python = installed
    look = "import importlib.util as u; print(bool(u.find_spec('torch')), bool(u.find_spec('pip')), bool(u.find_spec('pytest')))"
    assert ran(python, "-c", look).stdout.split() == [str(service in WITH_TORCH), "False", "False"]


def test_the_service_starts_from_it(installed: tuple[str, Path], tmp_path: Path) -> None:
    service, python = installed
    if service == "cli":
        database = {"BALDISTILL_DATABASE__URL": f"sqlite:///{tmp_path / 'state.db'}"}
        made = ran(python.parent / "baldistill", "admin", "bootstrap", "ops", "--json", **database)
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["tenant"] == "ops"
        topics = ran(python.parent / "baldistill", "admin", "topics", "--help")
        assert topics.returncode == 0, topics.stderr
    elif service == "training":
        _check_training(python, tmp_path)
    else:
        _check_process(python, service, tmp_path)


def _check_training(python: Path, folder: Path) -> None:
    """A job whose spec is not there ends as such, and everything that a training needs can be loaded."""
    spec = ArtifactRef(key="tenants/acme/runs/r/spec.json", sha256="0" * 64, size_bytes=2)
    job = Job(tenant="acme", run_id="r", epoch=1, stage=1, spec=spec)
    told = {
        "BALDISTILL_ARTIFACTS_FOLDER": str(folder),
        "BALDISTILL_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
    }
    ended = ran(python, "-m", "services.trainer.job_pod", "--job", job.to_json(), **told)
    assert ended.returncode == 70, ended.stderr
    assert "ArtifactMissing" in ended.stderr
    loaded = ran(
        python,
        "-c",
        "import peft, services.trainer.training, services.trainer.measuring, services.trainer.evaluate_job",
    )
    assert loaded.returncode == 0, loaded.stderr


def _check_process(python: Path, service: str, folder: Path) -> None:
    page = f"127.0.0.1:{free_port()}"
    told = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "BALDISTILL_DATABASE__URL": f"sqlite:///{folder / 'state.db'}",
        "BALDISTILL_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "BALDISTILL_STORE__ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "BALDISTILL_SERVER__METRICS_LISTEN": page,
        "BALDISTILL_HTTP__LISTEN": f"127.0.0.1:{free_port()}",
    }
    module = stack_layout.SERVICES[service]
    with _running([str(python), "-m", module], told, folder) as process:
        give_up_at_s = time.monotonic() + _START_TIMEOUT_S
        while not _is_alive(page):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < give_up_at_s, (folder / "log").read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, (folder / "log").read_text()


def _running(command: list[str], environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, env=dict(environment), cwd=folder, stdout=log, stderr=log)


def _is_alive(page: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{page}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
