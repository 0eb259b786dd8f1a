"""One Kafka broker, controller and all in one process (KRaft), on the loopback: what the local stack and tests use.

The settings are those that the event chain's promises need (DESIGN 3), for one broker: no topics by accident, offsets
kept longer than facts.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from baldistill.local_stack.kafka_jars import java, kafka_jars
from baldistill.local_stack.server_process import ServerFailed, ServerProcess, free_port, listens

# Facts are kept 14 days; a group that was away all that time still knows where it stood.
_OFFSETS_RETENTION_MINUTES = 30 * 24 * 60

# Any will do: one broker of its own folder is never mistaken for another's.
_CLUSTER_ID = "YmFsZGlzdGlsbC1sb2NhbA"

_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
offsets.retention.minutes={offsets_retention_minutes}
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# After a kill the broker may register again only when its old session is over: by default 9 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# Hundreds of nearly empty partitions: their indexes would else reserve 10 MiB each.
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=2
controlled.shutdown.max.retries=1
controlled.shutdown.retry.backoff.ms=100
"""

_LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
"""


class LocalKafka:
    """A broker whose data lies in a folder: stopped, killed and started again it serves the same at the same port."""

    def __init__(self, process: ServerProcess, *, port: int) -> None:
        self.process = process
        self.bootstrap_servers = f"127.0.0.1:{port}"

    def start(self, *, timeout_s: float = 90.0, dies_with_parent: bool = False) -> None:
        """Start it where it does not run; wait until it serves. Raises ServerFailed."""
        if self.process.pid is None:
            _format(self.process.folder)
        self.process.start(timeout_s=timeout_s, dies_with_parent=dies_with_parent)

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """End it politely. Idempotent."""
        self.process.stop(timeout_s=timeout_s)

    def kill(self) -> None:
        """End it by SIGKILL. Idempotent."""
        self.process.kill()


def make_kafka(folder: Path, *, port: int, controller_port: int | None = None) -> LocalKafka:
    """Return the broker of a folder; its settings are written anew. Raises ServerMissing.

    controller_port: None takes the one the folder had, a free one for a new folder.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    jars = kafka_jars()
    if controller_port is None:
        controller_port = _kept_controller_port(folder) or free_port()
    (folder / "server.properties").write_text(
        _SETTINGS.format(
            port=port,
            controller_port=controller_port,
            data=folder / "data",
            offsets_retention_minutes=_OFFSETS_RETENTION_MINUTES,
        )
    )
    (folder / "log4j2.properties").write_text(_LOGGING)
    command = [
        java(), "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "kafka.Kafka", str(folder / "server.properties"),
    ]  # fmt: skip
    process = ServerProcess(name="kafka", folder=folder, command=command, is_ready=lambda: listens(port))
    return LocalKafka(process, port=port)


def _kept_controller_port(folder: Path) -> int | None:
    """Return the controller's port of an earlier start: it is part of what the broker knows about itself."""
    try:
        lines = (folder / "server.properties").read_text().splitlines()
    except OSError:
        return None
    voters = next((line for line in lines if line.startswith("controller.quorum.voters=")), "")
    port = voters.rpartition(":")[2]
    return int(port) if port.isdigit() else None


def _format(folder: Path) -> None:
    """Prepare the data folder, once."""
    if (folder / "data" / "meta.properties").exists():
        return
    settings = str(folder / "server.properties")
    done = subprocess.run(  # noqa: S603  (our own command)
        [
            *(java(), "-Xmx128m", "-cp", f"{kafka_jars()}/*"),
            *("kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", _CLUSTER_ID, "-c", settings),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        (folder / "log").write_text(done.stdout + done.stderr)
        raise ServerFailed(name="kafka", reason="could not format its data folder", log=folder / "log")
