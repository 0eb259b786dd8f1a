"""A control plane without containers: etcd, API server, controllers and scheduler on the loopback, for tests (ADR 48)."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import ssl
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from baldistill.local_stack.debian import find_or_install
from baldistill.local_stack.kubernetes.programs import kubernetes_program
from baldistill.local_stack.server_process import ServerProcess, free_port

_VERSIONS = Path(__file__).parent.parent / "versions.toml"
_TOKEN = "an-admin-on-the-loopback"  # noqa: S105  (only processes of this machine reach it)
# The API server fills its caches and makes its own objects; much more where the machine is busy.
_START_TIMEOUT_S = 240.0
# The addresses that Services would have; nobody routes them here.
_SERVICE_CIDR = "10.96.0.0/16"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """Running processes. kubeconfig: an admin's.   processes: by name, to stop and look at."""

    kubeconfig: Path
    processes: tuple[ServerProcess, ...]


@contextlib.contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """Run a control plane in a folder of its own. It ends with the block, or with this thread.

    Raises ServerMissing, ServerFailed.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    store_port, peer_port, api_port = free_port(), free_port(), free_port()
    _make_keys(folder)
    kubeconfig = _write_kubeconfig(folder, port=api_port)
    etcd = _etcd(folder, port=store_port, peer_port=peer_port)
    api = _api_server(folder, port=api_port, store_port=store_port)
    rest = [_controllers(folder, kubeconfig), _scheduler(folder, kubeconfig)]
    with contextlib.ExitStack() as running:
        for process in (etcd, api, *rest):
            running.callback(process.kill)
            process.start(timeout_s=_START_TIMEOUT_S, dies_with_parent=True)
        yield ControlPlane(kubeconfig=kubeconfig, processes=(etcd, api, *rest))


def _etcd(folder: Path, *, port: int, peer_port: int) -> ServerProcess:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return ServerProcess(
        name="etcd",
        folder=folder / "etcd",
        command=[
            str(_etcd_program()), "--data-dir", str(folder / "etcd" / "data"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--logger", "zap",
            # Nothing here outlives the test.
            "--unsafe-no-fsync",
        ],
        is_ready=lambda: _answers_ok(port, "/health", secure=False),
    )  # fmt: skip


def _api_server(folder: Path, *, port: int, store_port: int) -> ServerProcess:
    key = folder / "service-accounts.key"
    return ServerProcess(
        name="kube-apiserver",
        folder=folder / "kube-apiserver",
        command=[
            str(kubernetes_program("kube-apiserver")), "--etcd-servers", f"http://127.0.0.1:{store_port}",
            "--bind-address=127.0.0.1", f"--secure-port={port}", f"--tls-cert-file={folder / 'server.crt'}",
            f"--tls-private-key-file={folder / 'server.key'}",
            f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=Node,RBAC", "--anonymous-auth=true",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}", f"--service-cluster-ip-range={_SERVICE_CIDR}",
            "--allow-privileged=false", "--endpoint-reconciler-type=none",
            # Defaults and checks as in a cluster: Pod Security among them, quotas, priorities, taints by condition.
            "--enable-admission-plugins=NodeRestriction,ResourceQuota,PodSecurity,Priority,ExtendedResourceToleration",
        ],
        is_ready=lambda: _answers_ok(port, "/readyz", secure=True),
    )  # fmt: skip


def _controllers(folder: Path, kubeconfig: Path) -> ServerProcess:
    port = free_port()
    return ServerProcess(
        name="kube-controller-manager",
        folder=folder / "kube-controller-manager",
        command=[
            str(kubernetes_program("kube-controller-manager")), f"--kubeconfig={kubeconfig}", "--leader-elect=false",
            f"--secure-port={port}", "--bind-address=127.0.0.1", f"--service-account-private-key-file={folder / 'service-accounts.key'}",
            "--use-service-account-credentials=false",
            # Nodes are objects without a kubelet: nobody renews their leases, and nobody is to evict their pods for that.
            "--controllers=*,-nodelifecycle,-node-ipam-controller,-bootstrapsigner,-tokencleaner",
        ],
        is_ready=lambda: _answers_ok(port, "/healthz", secure=True),
    )  # fmt: skip


def _scheduler(folder: Path, kubeconfig: Path) -> ServerProcess:
    port = free_port()
    return ServerProcess(
        name="kube-scheduler",
        folder=folder / "kube-scheduler",
        command=[
            str(kubernetes_program("kube-scheduler")), f"--kubeconfig={kubeconfig}", "--leader-elect=false",
            f"--secure-port={port}", "--bind-address=127.0.0.1",
        ],
        is_ready=lambda: _answers_ok(port, "/healthz", secure=True),
    )  # fmt: skip


def _etcd_program() -> Path:
    package = tomllib.loads(_VERSIONS.read_text())["etcd"]["package"]
    return Path(find_or_install(package, wanted_for="etcd", find=lambda: shutil.which("etcd")))


def _make_keys(folder: Path) -> None:
    """Write the server's certificate, the key that tokens of service accounts are signed with, and an admin's token."""
    certificate = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt"),
    ]  # fmt: skip
    for arguments in (certificate, ["genrsa", "-out", str(folder / "service-accounts.key"), "2048"]):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)  # noqa: S603, S607  (our own)
    tokens = folder / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{_TOKEN},admin,admin,"system:masters"\n')


def _write_kubeconfig(folder: Path, *, port: int) -> Path:
    path, authority = folder / "kubeconfig", folder / "server.crt"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "here",
                "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)},
            }
        ],
        "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
        "current-context": "here",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))
    return path


def _answers_ok(port: int, path: str, *, secure: bool) -> bool:
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=5.0, context=ssl._create_unverified_context())  # noqa: S323, SLF001
        if secure
        else http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
