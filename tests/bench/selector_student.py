"""The student that `bench_selector` scores with: the demo student, fine-tuned once on real items, and those it is asked about."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

from baldistill.datasets.examples import Example
from baldistill.specs.frozen import FrozenBaseModel, FrozenDataset, FrozenRun
from baldistill.specs.runspec import RunSpec
from baldistill.student.base_models import BaseModel
from baldistill.student.demo_student import model_cache
from baldistill.student.files import AdapterFiles
from baldistill.tasks.wording import CLASSIFICATION, MATH

ROOT = Path(__file__).parents[2]
# Changes of the recipe below need another number: the cache is found by it.
RECIPE = 1
STEPS = 40
ROWS_PER_STEP = 8
LABELS = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")


def data_folder() -> Path:
    """Return the folder of real data."""
    return Path(os.environ.get("BALDISTILL_DATA", ROOT.parent / "shared" / "data"))


def items_of(name: str, *, count: int, split: str = "test") -> list[Example]:
    """Return the first `count` items of a data set."""
    return [
        Example(example_id=row["id"], domain=row["domain"], input=row["input"], answer=row["answer"])
        for row in itertools.islice(_rows(f"{name}/{split}.jsonl.gz"), count)
    ]


def frozen_run(name: str, *, base: BaseModel, threads: int) -> FrozenRun:
    """Return a run over a data set, with the defaults of a spec."""
    is_math = name == "gsm8k"
    spec = {
        "name": name,
        "dataset": {"name": name},
        "task": {"kind": "math" if is_math else "classification"},
        "threads": threads,
        "budget": {"examples": 100},
        "teacher": {"kind": "protocol"},
        "student": {"base": base.name},
    }
    return FrozenRun(
        run_id=name,
        spec=RunSpec.model_validate(spec),
        dataset=FrozenDataset(name=name, version="v1", sha256="0" * 64),
        labels=() if is_math else LABELS,
        show_labels_to_student=not is_math,
        templates=MATH if is_math else CLASSIFICATION,
        base_model=FrozenBaseModel(name=base.name, weights_sha256=base.weights_sha256),
        price_version="free",
    )


def trained_student(base: BaseModel) -> AdapterFiles:
    """Return the adapter, trained at the first call (minutes), float32, 2 threads.

    gsm8k's targets are its people's rationales. r8 has none: a sentence of its first words and its label stands in.
    """
    folder = model_cache() / f"bench-selector-{RECIPE}"
    files = AdapterFiles(config=folder / "adapter_config.json", weights=folder / "adapter_model.safetensors")
    if not files.weights.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _train(base, files)
    return files


def _train(base: BaseModel, files: AdapterFiles) -> None:
    import torch
    from safetensors.torch import save_file

    from baldistill.student.loading import load_trainable_base
    from baldistill.student.lora import adapter_weights, attach_fresh, canonical_adapter_config, trainable_parameters
    from baldistill.student.precision import StudentDtype, begin_student_compute
    from baldistill.student.rendering import render
    from baldistill.student.target_loss import target_loss

    begin_student_compute(threads=2)
    student = load_trainable_base(base, dtype=StudentDtype.FLOAT32)
    count = STEPS * ROWS_PER_STEP // 2
    runs = {name: frozen_run(name, base=base, threads=2) for name in ("r8", "gsm8k")}
    reasons = {row["id"]: row["rationale"] for row in _rows("gsm8k/train.rationales.jsonl.gz")}
    rendered = [
        render(runs[name], student.tokenizer, text=one.input, answer=one.answer, rationale=rationale)
        for pair in zip(
            items_of("r8", count=count, split="train"), items_of("gsm8k", count=count, split="train"), strict=True
        )
        for name, one in zip(("r8", "gsm8k"), pair, strict=True)
        for rationale in [reasons.get(one.example_id) or _stand_in(one)]
    ]
    lora = runs["r8"].spec.student.lora
    adapted = attach_fresh(student.model, lora, base_name=base.name, rng=torch.Generator().manual_seed(1))
    adapted.train()
    parameters = trainable_parameters(adapted)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.0)
    loss = target_loss(adapted, device=student.device)
    for start in range(0, len(rendered), ROWS_PER_STEP):
        pairs = [(one.prompt_ids, one.target_ids) for one in rendered[start : start + ROWS_PER_STEP]]
        torch.autograd.backward([loss.target_token_nll(pairs).mean()])
        torch.nn.utils.clip_grad_norm_(parameters.values(), 0.3)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    files.config.write_bytes(canonical_adapter_config(adapted))
    unfinished = files.weights.with_suffix(".unfinished")
    save_file(adapter_weights(adapted), unfinished, metadata={"format": "pt"})
    unfinished.rename(files.weights)


def _stand_in(one: Example) -> str:
    words = " ".join(one.input.split()[:12])
    return f"The text begins with {words}. A report that opens so is about {one.answer}."


def _rows(name: str) -> Iterator[dict[str, str]]:
    with gzip.open(data_folder() / name, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)
