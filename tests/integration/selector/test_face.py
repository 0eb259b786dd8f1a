"""The selector's RPCs over the loopback: why examples were chosen, and scoring for callers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from baldistill.artifacts.layout import scoring_manifest
from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef, Manifest
from baldistill.artifacts.schemas import EXAMPLES, SCORES, SELECTION
from baldistill.artifacts.tables import read_table, store_table
from baldistill.datasets.examples import Example
from baldistill.errors import AccessDenied, InvalidInput, NotKnown
from baldistill.jobs.settings import JobSettings
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.rpc.messages import artifact_message
from baldistill.runtime.launching import Job, JobKind
from baldistill.runtime.progress import no_progress_of_any
from baldistill.specs.frozen import FrozenRun
from baldistill.testing.databases import open_test_database
from baldistill.testing.faces import Face, serving
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun
from baldistill.v1 import selector_pb2 as pb
from baldistill.v1.selector_pb2_grpc import SelectorServiceStub
from services.selector.composition import scoring_jobs
from services.selector.ports import Score
from services.selector.servers.servicer import SelectorServicer, bound

SIZES = {"billing": 3, "login": 2}


@dataclass
class Scene:
    run: SmallRun
    face: Face
    launched: list[Job] = field(default_factory=list)

    def stub(self, token: str = TENANT) -> SelectorServiceStub:
        return SelectorServiceStub(self.face.channel(token))

    def selected(self, chosen: Mapping[str, Sequence[str]], scores: Sequence[Mapping[str, object]]) -> None:
        """Store a stage's selection, ids by domain, and the scores of its candidates in two shards."""
        store, layout = self.run.store, self.run.frozen.layout.stage(1)
        rows = [
            {"id": one, "domain": domain, "input": "x", "answer": domain, "ifd": None}
            for domain, ids in chosen.items()
            for one in ids
        ]
        file = store_table(store, folder=layout.folder, name="selection", schema=SELECTION, rows=rows)
        for shard in range(2):
            table = store_table(
                store, folder=f"{layout.folder}/scores", name=f"shard-{shard}", schema=SCORES, rows=scores[shard::2]
            )
            store.create_manifest(Manifest(key=layout.score_shard(shard), files={"scores": table}))
        store.create_manifest(Manifest(key=layout.selection, files={"selection": file}))

    def student(self) -> ArtifactRef:
        store, layout = self.run.store, self.run.frozen.layout.stage(1)
        file = store.put_bytes(folder=layout.folder, name="adapter_model.safetensors", data=b"weights")
        return store.manifest_ref(store.create_manifest(Manifest(key=layout.student, files={"adapter_model": file})))

    def examples(self, count: int) -> ArtifactRef:
        rows = [{"id": f"e{n}", "domain": "billing", "input": f"text {n}", "answer": "billing"} for n in range(count)]
        folder = f"tenants/{TENANT}/datasets/mine"
        return store_table(self.run.store, folder=folder, name="examples", schema=EXAMPLES, rows=rows)


@pytest.fixture
def scene(tmp_path: Path, tiny_base: Path) -> Iterator[Scene]:
    run = SmallRun.create(LocalArtifactStore(tmp_path / "store"), base=tiny_base, pool=SIZES, test=SIZES)
    launched: list[Job] = []
    with serving(bound(SelectorServicer(run.store, launched.append))) as face:
        yield Scene(run, face, launched)


def scored(example_id: str, *, domain: str, ifd: float | None) -> dict[str, object]:
    return {
        "id": example_id,
        "domain": domain,
        "ifd": ifd,
        "conditioned_nll": None if ifd is None else 1.5,
        "unconditioned_nll": None if ifd is None else 2.5,
        "generated_tokens": 0 if ifd is None else 7,
        "hit_length_limit": False,
        "looping": ifd == 0.25,
    }


def test_a_selection_is_explained_by_domain_and_rank_with_what_was_not_chosen(scene: Scene) -> None:
    scene.selected(
        {"billing": ["b2"], "login": ["l0", "l1"]},
        [
            scored("b1", domain="billing", ifd=0.25),
            scored("b2", domain="billing", ifd=0.75),
            scored("b0", domain="billing", ifd=None),
        ],
    )
    request = pb.ExplainSelectionRequest(tenant=TENANT, run_id=RUN_ID, stage=1)
    found = scene.stub().ExplainSelection(request).candidates
    assert [(one.domain, one.rank, one.example_id, one.selected) for one in found] == [
        ("billing", 1, "b2", True),
        ("billing", 2, "b1", False),
        ("billing", 3, "b0", False),
        ("login", 1, "l0", True),
        ("login", 2, "l1", True),
    ]
    why = pb.SelectionReason
    assert [one.reason for one in found] == [
        why.SELECTION_REASON_HIGHEST_VALUE,
        why.SELECTION_REASON_LOWER_VALUE,
        why.SELECTION_REASON_LOWER_VALUE,
        why.SELECTION_REASON_NOTHING_COMPETED,
        why.SELECTION_REASON_NOTHING_COMPETED,
    ]
    best, looping, empty, unscored = found[0], found[1], found[2], found[3]
    assert (best.ifd, best.conditioned_nll, best.unconditioned_nll, best.generated_tokens) == (0.75, 1.5, 2.5, 7)
    assert looping.looping
    assert not empty.HasField("ifd")
    assert not unscored.HasField("ifd")


def test_explanations_come_in_pages_and_for_one_domain_or_example(scene: Scene) -> None:
    scene.selected({"billing": ["b0", "b1"], "login": ["l0"]}, [])
    seen, token = [], ""
    while True:
        request = pb.ExplainSelectionRequest(tenant=TENANT, run_id=RUN_ID, stage=1, page_size=2, page_token=token)
        page = scene.stub().ExplainSelection(request)
        seen += [one.example_id for one in page.candidates]
        if not (token := page.next_page_token):
            break
    assert seen == ["b0", "b1", "l0"]
    one_domain = pb.ExplainSelectionRequest(tenant=TENANT, run_id=RUN_ID, stage=1, domain="login")
    assert [one.example_id for one in scene.stub().ExplainSelection(one_domain).candidates] == ["l0"]
    one_example = pb.ExplainSelectionRequest(tenant=TENANT, run_id=RUN_ID, stage=1, example_id="b1")
    assert [one.rank for one in scene.stub().ExplainSelection(one_example).candidates] == [2]


def test_what_cannot_be_explained_is_said(scene: Scene) -> None:
    for token, stage, run_id, error in (
        ("other", 1, RUN_ID, AccessDenied),
        (TENANT, 1, RUN_ID, NotKnown),
        (TENANT, 1, "nothing", NotKnown),
        (TENANT, 9, RUN_ID, InvalidInput),
    ):
        request = pb.ExplainSelectionRequest(tenant=TENANT, run_id=run_id, stage=stage)
        with pytest.raises(error):
            scene.stub(token).ExplainSelection(request)


def test_a_scoring_is_launched_under_a_name_that_its_request_decides(scene: Scene) -> None:
    student, examples = artifact_message(scene.student()), artifact_message(scene.examples(2))
    request = pb.ScoreExamplesRequest(tenant=TENANT, student=student, examples=examples, max_new_tokens=8)
    assert len({scene.stub().ScoreExamples(request).name for _ in range(2)}) == 1
    job = scene.launched[0]
    assert (job.kind, job.run_id, job.stage, job.max_new_tokens) == (JobKind.SCORE, RUN_ID, 1, 8)
    with pytest.raises(NotKnown):
        scene.stub("other").ScoreExamples(pb.ScoreExamplesRequest(tenant="other", student=student, examples=examples))


class LengthScorer:
    """Scores by the length of the text; remembers how many it was given at once."""

    def __init__(self) -> None:
        self.pieces: list[int] = []
        self.longest: set[int] = set()

    def score(
        self,
        *,
        frozen: FrozenRun,
        student: ArtifactRef,
        examples: Sequence[Example],
        on_scored: Callable[[int], None],
        on_halved: Callable[[int], None] = lambda _rows: None,
    ) -> list[Score]:
        self.pieces.append(len(examples))
        self.longest.add(frozen.spec.selection.max_new_tokens)
        on_scored(len(examples))
        return [
            Score(
                example_id=one.example_id,
                domain=one.domain,
                ifd=float(len(one.input)),
                conditioned_nll=1.0,
                unconditioned_nll=1.0,
                generated_tokens=1,
                hit_length_limit=False,
                looping=False,
            )
            for one in examples
        ]


def test_a_launched_scoring_is_done_by_whatever_worker_runs_in_pieces_of_a_shards_size(
    scene: Scene, tmp_path: Path
) -> None:
    student, examples = artifact_message(scene.student()), artifact_message(scene.examples(10))
    request = pb.ScoreExamplesRequest(tenant=TENANT, student=student, examples=examples, max_new_tokens=8)
    name = scene.stub().ScoreExamples(request).name
    scorer = LengthScorer()
    with ExitStack() as exit_stack:
        engine = open_test_database(kind="sqlite", location=str(tmp_path))
        exit_stack.callback(engine.dispose)
        SqlJobRegistry(engine).put(scene.launched[0])
        worker = scoring_jobs(
            scene.run.store,
            engine=engine,
            scorer=scorer,
            progress=no_progress_of_any,
            settings=JobSettings(locks=tmp_path / "locks"),
        )
        exit_stack.callback(worker.close)
        while worker.is_busy():
            time.sleep(0.02)
    manifest = scene.run.store.find_manifest(scoring_manifest(tenant=TENANT, name=name))
    assert manifest is not None
    rows = list(read_table(scene.run.store, manifest.files["scores"]))
    assert [row["id"] for row in rows] == [f"e{number}" for number in range(10)]
    assert (scorer.pieces, scorer.longest) == ([4, 4, 2], {8})
