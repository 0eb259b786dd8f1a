"""An exported student is what others load."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.errors import InvalidInput
from baldistill.runtime.launching import Job
from baldistill.runtime.progress import no_progress_of_any
from baldistill.student.trained import load_run_student
from baldistill.testing.small_runs import RUN_ID, TENANT, SmallRun, small_examples
from services.trainer.export import export_student, predict, trained_stages
from services.trainer.job import run_job

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


def test_an_export_never_overwrites_and_names_the_stages_there_are(trained: SmallRun, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="exists already"):
        export_student(trained.store, trained.frozen, stage=1, folder=tmp_path)
    with pytest.raises(InvalidInput, match="no student of stage 2; there: 1"):
        export_student(trained.store, trained.frozen, stage=2, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert trained_stages(trained.store, trained.frozen) == [1]
