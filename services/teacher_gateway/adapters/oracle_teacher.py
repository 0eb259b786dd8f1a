"""The `oracle` teacher in this process: knows the data set of one run, asks nobody."""

from __future__ import annotations

from typing import Self

from baldistill.artifacts.ports import ArtifactStore
from baldistill.datasets.side_files import read_rationales
from baldistill.datasets.storage import iter_examples, load_dataset
from baldistill.specs.frozen import FrozenRun
from services.teacher_gateway.oracle import Oracle, in_drawing_order
from services.teacher_gateway.ports import CallEnd, CallResult, TeacherCall

# English prose has about four bytes a token; only the size of the reported usage depends on it.
_BYTES_PER_TOKEN = 4
_BAD_REQUEST = 400


class OracleTeacher:
    """TeacherClient over what people wrote. oracle: None where no run is known; then every call is refused."""

    def __init__(self, oracle: Oracle | None) -> None:
        self._oracle = oracle

    @classmethod
    def of_run(cls, frozen: FrozenRun, *, store: ArtifactStore) -> Self:
        """Read what the run's data set has beside its rows. Raises InvalidInput, ArtifactMissing, ArtifactCorrupt."""
        spec = frozen.spec
        dataset = load_dataset(store, tenant=spec.tenant, name=frozen.dataset.name, version=frozen.dataset.version)
        items = iter_examples(store, dataset.oracle) if dataset.oracle is not None else ()
        return cls(
            Oracle(
                items=in_drawing_order(items, seed=spec.seed),
                rationales=read_rationales(store, dataset.rationales) if dataset.rationales is not None else {},
                labels=frozen.labels,
                seed=spec.seed,
                label_noise=spec.teacher.oracle.label_noise,
            )
        )

    @property
    def url(self) -> str:
        return "oracle (in process)"

    def complete(self, call: TeacherCall) -> CallResult:
        if self._oracle is None or call.subject is None:
            detail = "the oracle answers only what a run asks about its own data set"
            return CallResult(end=CallEnd.HTTP_ERROR, status=_BAD_REQUEST, detail=detail)
        text = self._oracle.answer(call.subject)
        prompt_bytes = sum(len(message.content.encode()) for message in call.messages)
        # What people wrote is not cut; the usage stays within the bound that was reserved.
        completion_tokens = min(len(text.encode()) // _BYTES_PER_TOKEN + 1, call.max_completion_tokens)
        return CallResult(
            end=CallEnd.ANSWERED,
            text=text,
            finish_reason="stop",
            model=call.model,
            prompt_tokens=prompt_bytes // _BYTES_PER_TOKEN,
            completion_tokens=completion_tokens,
        )

    def check(self) -> None:
        """Nothing can be away."""

    def close(self) -> None:
        """Nothing is open."""
