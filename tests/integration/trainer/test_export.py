"""An exported student is what others load."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.errors import InvalidInput
from baldistill.runtime.launching import Job, JobStopped
from baldistill.runtime.progress import no_progress_of_any
from baldistill.student.trained import load_run_student
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from services.trainer.export import export_student, predict, trained_stages
from services.trainer.job import run_job
from services.trainer.parity import ParityBroken, ParityUnknown, check_parity

SIZES = {"billing": 24, "login": 12, "delivery": 6}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> SmallRun:
    """A run whose first student has learnt its few labels by heart."""
    student = {
        "base": str(tiny_base),
        "dtype": "float32",
        "lora": {"r": 16, "dropout": 0.0, "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]},
        "training": {"epochs": 60, "batch_size": 8, "learning_rate": 0.02, "max_grad_norm": 1.0, "max_tokens": 256},
    }
    store = LocalArtifactStore(tmp_path_factory.mktemp("trained"))
    run = SmallRun.create(store, base=tiny_base, pool=SIZES, test=SIZES, student=student, target="label")
    run.rationales_collected(stage=1, examples=small_examples(SIZES, prefix="pool"))
    run_job(
        Job(tenant=TENANT, run_id=RUN_ID, epoch=1, stage=1, spec=run.spec),
        lambda: False,
        store=store,
        progress=no_progress_of_any,
    )
    return run


def test_the_student_learns_what_it_is_taught(trained: SmallRun) -> None:
    texts = ["The refund number 100 ", "The password number 100 ", "The parcel number 100 "]
    answers = predict(trained.store, trained.frozen, stage=1, texts=texts)
    assert [one.answer for one in answers] == ["billing", "login", "delivery"]
    assert not any(one.hit_length_limit for one in answers)


def test_metrics_name_stage_report_and_both_reference_rows(trained: SmallRun) -> None:
    manifest = trained.store.find_manifest(trained.frozen.layout.stage(1).metrics)
    assert manifest is not None
    content = json.loads(trained.store.read_bytes(manifest.files["metrics"]))
    assert content["stage"] == 1
    assert content["is_last"] is False
    # 4 items of each of 3 domains: too few for a mean, so it is said to be none.
    assert (content["report"]["items"], content["report"]["macro"]) == (12, None)
    assert sum(domain["correct"] for domain in content["report"]["domains"].values()) == 12
    assert set(content["references"]) == {"majority", "tfidf_logistic_regression"}


def test_peft_loads_the_exported_folder_and_gives_the_same_logits(
    trained: SmallRun, tiny_base: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = export_student(trained.store, trained.frozen, stage=1, folder=tmp_path / "out" / "student")
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 for a property by its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), folder).eval()
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)("The refund number 3").input_ids])
    student = trained.store.find_manifest(trained.frozen.layout.stage(1).student)
    ours = load_run_student(trained.store, trained.frozen, student)
    with torch.inference_mode():
        assert torch.allclose(theirs(input_ids=ids).logits, ours.model(input_ids=ids).logits, atol=1e-4)
    card = (folder / "README.md").read_text()
    assert "prompt_style: chat" in card
    assert "| billing | head |" in card


def test_a_fresh_process_that_loads_the_folder_writes_what_the_student_writes(
    trained: SmallRun, tmp_path: Path
) -> None:
    student = trained.store.find_manifest(trained.frozen.layout.stage(1).student)
    assert student is not None
    folder = export_student(trained.store, trained.frozen, stage=1, folder=tmp_path / "student")
    found = check_parity(trained.store, trained.frozen, student, folder=folder, items=50)
    # The test set has 42; each answer has a token and an end at least.
    assert found.items == 42
    assert found.tokens >= 84
    assert found.nll_difference <= 0.02


def double_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every folder that is written hold another adapter than the stored one."""

    def other_weights(source: Path, target: Path) -> None:
        if target.name == "adapter_model.safetensors":
            save_file({name: -2 * one for name, one in load_file(source).items()}, target, metadata={"format": "pt"})
        else:
            target.write_bytes(source.read_bytes())

    monkeypatch.setattr(shutil, "copyfile", other_weights)


def test_a_folder_with_other_weights_never_appears(
    trained: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double_the_adapter(monkeypatch)
    with pytest.raises(ParityBroken, match="the exported folder is not the student: 3 of 3 items") as raised:
        export_student(trained.store, trained.frozen, stage=1, folder=tmp_path / "student", checked_items=3)
    assert len(raised.value.different) == 3
    assert not (tmp_path / "student").exists()


def test_a_last_student_whose_export_is_another_does_not_count_as_trained(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SmallRun.create(
        LocalArtifactStore(tmp_path / "store"),
        base=tiny_base,
        pool=SIZES,
        test=SIZES,
        student={
            "base": str(tiny_base),
            "dtype": "float32",
            "training": {"epochs": 4, "batch_size": 8, "learning_rate": 0.05, "max_grad_norm": 1.0, "max_tokens": 256},
        },
        evaluation={"parity_items": 2, "per_domain": 2, "final": 4, "max_new_tokens": 4},
    )
    for stage in (1, 2):
        run.rationales_collected(stage=stage, examples=small_examples({"billing": 8, "login": 8}, prefix=f"p{stage}"))
    job = Job(tenant=TENANT, run_id=RUN_ID, epoch=1, stage=2, spec=run.spec)
    layout = run.frozen.layout.stage(2)
    with monkeypatch.context() as patched:
        double_the_adapter(patched)
        with pytest.raises(ParityBroken):
            run_job(job, lambda: False, store=run.store, progress=no_progress_of_any)
    assert run.store.find_manifest(layout.metrics) is None
    student = run.store.find_manifest(layout.student)
    assert student is not None
    # Nothing is lost: repaired, the job goes on with the student that was trained.
    run_job(job, lambda: False, store=run.store, progress=no_progress_of_any)
    assert run.store.find_manifest(layout.student) == student
    assert run.store.find_manifest(layout.metrics) is not None


def test_a_folder_that_the_fresh_process_cannot_load_is_reported_with_what_it_said(
    trained: SmallRun, tmp_path: Path
) -> None:
    student = trained.store.find_manifest(trained.frozen.layout.stage(1).student)
    assert student is not None
    with pytest.raises(ParityUnknown, match=r"adapter_config\.json"):
        check_parity(trained.store, trained.frozen, student, folder=tmp_path, items=1)


def test_a_check_ends_when_its_job_is_asked_to(trained: SmallRun, tmp_path: Path) -> None:
    student = trained.store.find_manifest(trained.frozen.layout.stage(1).student)
    assert student is not None
    with pytest.raises(JobStopped):
        check_parity(trained.store, trained.frozen, student, folder=tmp_path, items=1, should_stop=lambda: True)


def test_an_export_never_overwrites_and_names_the_stages_there_are(trained: SmallRun, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="exists already"):
        export_student(trained.store, trained.frozen, stage=1, folder=tmp_path)
    with pytest.raises(InvalidInput, match="no student of stage 2; there: 1"):
        export_student(trained.store, trained.frozen, stage=2, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert trained_stages(trained.store, trained.frozen) == [1]
