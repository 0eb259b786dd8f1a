"""Whether an exported student is the student that was trained: others' code in a fresh process, over its folder, writes the same.

Greedy ids are compared without writing them twice. Here our engine writes an answer. There one pass over prompt and answer
says what the loaded student would have written after each token: if that is the answer's next token everywhere, and the end
at its end, then greedy decoding there writes this answer and no other.

In bfloat16 the likelihood of these same answers is compared. That of the right answers would not do: a student that has learnt
to reason first finds a bare answer so unlikely (9 nats a token, seen) that rounding alone moves it by 0.1 nats.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.datasets.examples import Example
from baldistill.datasets.storage import iter_examples, load_dataset
from baldistill.errors import PermanentError, RetryableError
from baldistill.runtime.launching import JobStopped, ShouldStop
from baldistill.specs.frozen import FrozenRun
from services.trainer.evaluation.item_choice import choose_test_items

if TYPE_CHECKING:
    from baldistill.student.decoding import Written
    from baldistill.student.loading import Student

# Enough to tell a wrong adapter, prompt or tokenizer; long answers of many items take minutes.
_NEW_TOKENS = 24
# In nats: two tokens whose likelihoods differ by less may change places when float32 is summed in another order.
_TIE = 1e-3
# Of mean NLL, in nats: bfloat16 merged into the weights against bfloat16 beside them (issue 7).
_NLL_TOLERANCE = 0.02
_TIMEOUT_S = 1800
_POLL_S = 0.1
_LOG_TAIL_CHARACTERS = 2000


def never() -> bool:
    """Go on."""
    return False


class ParityBroken(PermanentError):
    """An exported folder does not do what the student does. different: ids of items that it answers otherwise."""

    def __init__(self, *, different: Sequence[str], items: int, nll_difference: float) -> None:
        named = f" ({', '.join(different[:5])}{', ...' if len(different) > 5 else ''})" if different else ""
        super().__init__(
            f"the exported folder is not the student: {len(different)} of {items} items with other answers{named},"
            f" mean NLL in bfloat16 off by {nll_difference:.4f} nats of at most {_NLL_TOLERANCE}"
        )
        self.different = tuple(different)
        self.items = items
        self.nll_difference = nll_difference


class ParityUnknown(RetryableError):
    """The fresh process did not answer."""

    def __init__(self, *, code: int | None, said: str) -> None:
        how = f"took longer than {_TIMEOUT_S} s" if code is None else f"ended with {code}"
        super().__init__(f"the process that loads the exported student {how}: {said}")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """items: compared.   tokens: of what was written, ends included.   nll_difference: of its mean NLL per token in bfloat16,
    in nats, absolute.
    """

    items: int
    tokens: int
    nll_difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ours:
    """What the stored student does.

    written: prompt, ids and whether they ended, per item.   nll: mean per token in bfloat16, of each that is not empty.
    """

    items: Sequence[Example]
    written: Sequence[tuple[Sequence[int], Sequence[int], bool]]
    nll: Sequence[float]
    stop_ids: Sequence[int]
    base: Path


def check_parity(
    store: ArtifactStore,
    frozen: FrozenRun,
    student: Manifest,
    *,
    folder: Path,
    items: int,
    should_stop: ShouldStop = never,
) -> Parity:
    """Compare greedy token ids in float32 and NLL in bfloat16 over at most `items` test items.

    Here: our engine over the stored student. There: a new process and `PeftModel.from_pretrained(base, folder)`.
    Raises ParityBroken, ParityUnknown, JobStopped, InvalidInput, ArtifactMissing, ArtifactCorrupt.
    """
    with _fresh_process() as fresh:
        ours = _ours(store, frozen, student, items=items, should_stop=should_stop)
        theirs = fresh.answer(
            {
                "base": str(ours.base),
                "folder": str(folder),
                "threads": frozen.spec.threads,
                "written": ours.written,
                "stop_ids": ours.stop_ids,
            },
            should_stop=should_stop,
        )
    gaps = theirs["gaps"]
    different = [one.example_id for one, gap in zip(ours.items, gaps, strict=True) if not gap <= _TIE]
    difference = abs(sum(ours.nll) - sum(theirs["nll"])) / max(1, len(ours.nll))
    if different or not difference <= _NLL_TOLERANCE:
        raise ParityBroken(different=different, items=len(ours.items), nll_difference=difference)
    return Parity(
        items=len(ours.items),
        tokens=sum(len(ids) + ended for _, ids, ended in ours.written),
        nll_difference=difference,
    )


def _ours(store: ArtifactStore, frozen: FrozenRun, student: Manifest, *, items: int, should_stop: ShouldStop) -> _Ours:
    # Deferred: torch takes seconds to import. What is loaded here is freed before the other process loads the same.
    from baldistill.student.files import adapter_files
    from baldistill.student.loading import load_student
    from baldistill.student.precision import StudentDtype, begin_student_compute
    from baldistill.student.rendering import render_prompt
    from baldistill.student.trained import open_base

    begin_student_compute(threads=frozen.spec.threads)
    spec = frozen.spec
    dataset = load_dataset(store, tenant=spec.tenant, name=frozen.dataset.name, version=frozen.dataset.version)
    chosen = choose_test_items(iter_examples(store, dataset.test), seed=spec.seed, total=items)
    base, adapter = open_base(frozen, store), adapter_files(store, student)
    in_float32 = load_student(base, dtype=StudentDtype.FLOAT32, adapter=adapter)
    prompts = [render_prompt(frozen, in_float32.tokenizer, text=one.input, room_for=_NEW_TOKENS)[0] for one in chosen]
    written = _write(in_float32, prompts, rows_at_once=spec.evaluation.batch_size, should_stop=should_stop)
    stop_ids = sorted(in_float32.stop_ids)
    del in_float32
    in_bfloat16 = load_student(base, dtype=StudentDtype.BFLOAT16, adapter=adapter)
    pairs = [(prompt, one.token_ids) for prompt, one in zip(prompts, written, strict=True) if one.token_ids]
    return _Ours(
        items=chosen,
        written=[
            (prompt, one.token_ids, not one.hit_length_limit) for prompt, one in zip(prompts, written, strict=True)
        ],
        nll=_likelihoods(in_bfloat16, pairs, rows_at_once=spec.evaluation.batch_size),
        stop_ids=stop_ids,
        base=base.folder,
    )


def _write(
    student: Student, prompts: Sequence[Sequence[int]], *, rows_at_once: int, should_stop: ShouldStop
) -> list[Written]:
    from baldistill.student.generation import generate_greedily

    def stop_where_asked(_answered: int) -> None:
        if should_stop():
            raise JobStopped

    return generate_greedily(
        student, prompts, max_new_tokens=_NEW_TOKENS, batch_size=rows_at_once, on_answered=stop_where_asked
    )


def _likelihoods(
    student: Student, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, rows_at_once: int
) -> list[float]:
    from baldistill.student.scoring import mean_target_nll

    return mean_target_nll(student, pairs, batch_size=rows_at_once)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FreshProcess:
    """A process that imports what it needs, then waits to be asked."""

    process: subprocess.Popen[bytes]
    question: Path
    reply: Path
    log: Path

    def answer(self, asked: dict[str, Any], *, should_stop: ShouldStop) -> dict[str, Any]:
        """Ask it, once. Raises ParityUnknown, JobStopped."""
        self.question.write_text(json.dumps(asked))
        assert self.process.stdin is not None
        # The end of its input says that the question is there. Where it is gone already its log says why.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        _wait(self.process, should_stop)
        if self.process.returncode != 0:
            said = self.log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]
            raise ParityUnknown(code=self.process.returncode, said=said)
        found: dict[str, Any] = json.loads(self.reply.read_text())
        return found


@contextlib.contextmanager
def _fresh_process() -> Iterator[_FreshProcess]:
    with tempfile.TemporaryDirectory(prefix="baldistill-") as scratch:
        question, reply, log = (Path(scratch) / name for name in ("asked.json", "reply.json", "log.txt"))
        command = [sys.executable, "-m", "services.trainer.parity_process", str(os.getpid()), str(question), str(reply)]
        with (
            log.open("wb") as output,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output) as process,  # noqa: S603
        ):
            try:
                yield _FreshProcess(process=process, question=question, reply=reply, log=log)
            finally:
                process.kill()


def _wait(process: subprocess.Popen[bytes], should_stop: ShouldStop) -> None:
    give_up_at_s = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            process.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            if should_stop():
                raise JobStopped from None
            if time.monotonic() > give_up_at_s:
                raise ParityUnknown(code=None, said="") from None
        else:
            return
