"""Makes teacher clients out of specs, one per distinct teacher; the only place that reads API keys."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence

from baldistill.artifacts.ports import ArtifactStore
from baldistill.errors import InvalidInput
from baldistill.specs.frozen import FrozenRun
from baldistill.specs.runspec import KeyLimitsSpec, TeacherSpec
from services.teacher_gateway.adapters.forwarding_teacher import Provider
from services.teacher_gateway.adapters.openai_teacher import OpenAITeacher
from services.teacher_gateway.adapters.oracle_teacher import OracleTeacher
from services.teacher_gateway.adapters.protocol_teacher import ProtocolTeacher
from services.teacher_gateway.limits.keys import TeacherKey
from services.teacher_gateway.limits.terms import KeyLimits, key_id_of
from services.teacher_gateway.ports import TeacherClient


class TeacherDirectory:
    """Teachers over the process environment. Keys are read from the variable that a spec names and kept nowhere else.

    store: where the `oracle` teacher finds the data set of its run.   urls: that a teacher may have; empty: any.
    key_limits: the operator's, by the variable of a key.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        store: ArtifactStore | None = None,
        urls: Collection[str] = (),
        key_limits: Mapping[str, KeyLimitsSpec] | None = None,
    ) -> None:
        self._environment = environment
        self._key_limits = key_limits or {}
        self._urls = frozenset(url.rstrip("/") for url in urls)
        self._store = store
        # One at a time: it holds a data set's oracle items and rationales.
        self._oracle: tuple[str, OracleTeacher] = ("", OracleTeacher(None))
        self._clients: dict[str, TeacherClient] = {}
        self._lock = threading.Lock()

    def client_for(self, teacher: TeacherSpec, *, run: FrozenRun | None = None) -> TeacherClient:
        """Return the client of a spec's teacher. Raises InvalidInput where its key is not set or its URL not allowed.

        run: whose data set the `oracle` teacher knows; without it that teacher refuses every call.
        """
        if teacher.kind == "oracle":
            return self._oracle_of(run)
        return self._client(teacher, teacher.api_key_env)

    def keys_for(self, teacher: TeacherSpec, *, run: FrozenRun | None = None) -> Sequence[TeacherKey]:
        """Return a teacher by each of its keys. Raises as `client_for` does.

        Limits: the operator's of a key, over all who use it; where there are none those of the spec, over its tenant's runs
        alone. So nobody's spec slows down others, or speeds itself up. A teacher without a run is the operator's own.
        """
        if teacher.kind != "openai":
            client = self.client_for(teacher, run=run)
            # In this process there is no key: named by what answers.
            return [
                _key(
                    client, url=client.url, api_key=teacher.kind, name=teacher.kind, limits=teacher.key_limits, run=run
                )
            ]
        assert teacher.base_url is not None
        keys = []
        for name in (teacher.api_key_env, *teacher.more_api_key_envs):
            client, api_key = self._client(teacher, name), self._environment.get(name, "")
            operators = self._key_limits.get(name)
            limits, whose = (teacher.key_limits, run) if operators is None else (operators, None)
            keys.append(_key(client, url=teacher.base_url, api_key=api_key, name=name, limits=limits, run=whose))
        return keys

    def _client(self, teacher: TeacherSpec, key_env: str) -> TeacherClient:
        identity = f"{key_env}\n" + teacher.model_dump_json(include={"kind", "base_url", "protocol"})
        with self._lock:
            if identity not in self._clients:
                self._clients[identity] = self._make(teacher, key_env)
            return self._clients[identity]

    def close(self) -> None:
        """Close every client. Idempotent."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _oracle_of(self, run: FrozenRun | None) -> OracleTeacher:
        if run is None or self._store is None:
            return OracleTeacher(None)
        with self._lock:
            if self._oracle[0] != run.run_id:
                self._oracle = (run.run_id, OracleTeacher.of_run(run, store=self._store))
            return self._oracle[1]

    def provider_of(self, teacher: TeacherSpec, key_env: str) -> Provider:
        """Return where requests for a teacher of kind openai go, by one of its keys. Raises as `client_for` does."""
        assert teacher.base_url is not None
        if self._urls and teacher.base_url.rstrip("/") not in self._urls:
            raise InvalidInput(
                f"this gateway sends no key to {teacher.base_url}; it may know: {', '.join(sorted(self._urls))}",
                field="teacher.base_url",
            )
        key = self._environment.get(key_env, "")
        if not key:
            raise InvalidInput(
                f"environment variable {key_env} is not set; put the teacher's key there"
                " (any text for a server without keys). A gateway process reads those alone that its setting"
                " `teacher_keys` names",
                field="teacher.api_key_env" if key_env == teacher.api_key_env else "teacher.more_api_key_envs",
            )
        return Provider(base_url=teacher.base_url, api_key=key)

    def _make(self, teacher: TeacherSpec, key_env: str) -> TeacherClient:
        if teacher.kind == "protocol":
            return ProtocolTeacher(teacher.protocol)
        provider = self.provider_of(teacher, key_env)
        return OpenAITeacher(base_url=provider.base_url, api_key=provider.api_key)


def _key(
    client: TeacherClient, *, url: str, api_key: str, name: str, limits: KeyLimitsSpec, run: FrozenRun | None
) -> TeacherKey:
    """Return a key whose limits are shared by all, or, where a run is given, by the runs of its tenant."""
    key_id = key_id_of(url=url, api_key=api_key)
    limits_id = key_id if run is None else key_id_of(url=f"{key_id} of", api_key=run.spec.tenant)
    return TeacherKey(key_id=key_id, limits_id=limits_id, name=name, limits=_limits(limits), client=client)


def _limits(spec: KeyLimitsSpec) -> KeyLimits:
    return KeyLimits(
        calls_at_once=spec.calls_at_once,
        requests_per_minute=spec.requests_per_minute,
        tokens_per_minute=spec.tokens_per_minute,
    )
