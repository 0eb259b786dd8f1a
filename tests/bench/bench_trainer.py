"""`make bench-trainer`: our training against TRL's SFTTrainer, the same ordered batches of gsm8k's rationales (DESIGN 8).

Both sides in turn, each a process of its own, from one adapter (q and v, r 8) on the demo student: `steps` steps of `rows`
rows of about equal length. A pair that is measured is kept in `--folder`; a second call goes on with the missing ones. TRL
computes in whichever of bfloat16 and float32, and with whichever of its two forms of the loss, was faster in a trial. Tokens are counted without padding, what
rows share in each row. Of a run's steps the first, which warms up, counts no time.

`heldout_nll_ratio`: ours to TRL's adapter, mean NLL of 24 held-out rows, by one plain float32 forward pass for both.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baldistill.runtime.thread_waits import with_short_waits
from baldistill.student.base_models import resolve_base_model
from baldistill.student.loading import load_base_weights, load_tokenizer
from baldistill.student.precision import StudentDtype
from baldistill.student.rendering import encode
from baldistill.tasks.templates import render_template
from baldistill.tasks.wording import MATH
from tests.bench.peer_environment import as_it_comes
from tests.bench.trainer_ours import write_fresh_adapter

_BASE = "smollm2-135m-instruct"
_HELD_OUT = 24
_DROPOUTS = (0.0, 0.1)
_TRIAL_STEPS = 3
_TRL_SETTINGS = ("bfloat16 nll", "bfloat16 chunked_nll", "float32 nll", "float32 chunked_nll")


def write_work(data: Path, folder: Path, *, steps: int, rows: int) -> Path:
    """Render the batches and store them with all that both sides share; returns the file."""
    file = folder / "work.json"
    if file.exists():
        return file
    base = resolve_base_model(_BASE)
    tokenizer = load_tokenizer(base)
    rationales = {one["id"]: one["rationale"] for one in _lines(data / "gsm8k/train.rationales.jsonl.gz")}
    pairs = []
    for item in _lines(data / "gsm8k/train.jsonl.gz")[: 8 * (steps * rows + _HELD_OUT) : 8]:
        messages = [
            {"role": "system", "content": MATH.student_system},
            {"role": "user", "content": render_template(MATH.student_prompt, input=item["input"], labels=())},
        ]
        prompt = encode(tokenizer, tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        target = render_template(MATH.rationale_target, rationale=rationales[item["id"]], answer=item["answer"])
        pairs.append((prompt, (*encode(tokenizer, target), tokenizer.eos_token_id)))
    held_out, training = pairs[:_HELD_OUT], pairs[_HELD_OUT:]
    training.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
    batches = [training[start : start + rows] for start in range(0, len(training), rows)]
    # Grouped by length, as TRL would; spread, so that no step is measured by its place.
    batches = [batches[at * 7 % len(batches)] for at in range(len(batches))]
    write_fresh_adapter(_BASE, folder / "adapter")
    work = {
        "base": str(base.folder),
        "adapter": str(folder / "adapter"),
        "batches": batches,
        "held_out": held_out,
        "threads": 2,
        "learning_rate": 2e-4,
        "max_grad_norm": 0.3,
    }
    file.write_text(json.dumps(work))
    return file


def run_side(side: str, work: Path, out: Path, *, peer: Path, dropout: float, setting: str) -> dict[str, Any]:
    """Train one side in a process of its own; what it found, and its held-out NLL."""
    here = Path(__file__).parent
    commands = {
        "ours": [sys.executable, "-m", "tests.bench.trainer_ours", str(work), str(out), str(dropout)],
        "trl": [str(peer), str(here / "trainer_trl.py"), str(work), str(out), str(dropout), *setting.split()],
    }
    environment = with_short_waits(os.environ) if side == "ours" else as_it_comes(os.environ)
    if side != "ours":
        environment.pop("PYTHONPATH", None)
    subprocess.run(
        commands[side],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
    )
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def fastest_setting(work: Path, folder: Path, *, peer: Path) -> str:
    """Return TRL's number type and loss that are the fastest here, from a trial that is kept."""
    kept = folder / "trl-setting.json"
    if not kept.exists():
        trial, out = folder / "trial.json", folder / "trial-out.json"
        content = json.loads(work.read_text())
        trial.write_text(json.dumps(content | {"batches": content["batches"][:_TRIAL_STEPS]}))
        times = {}
        for setting in _TRL_SETTINGS:
            try:
                found = run_side("trl", trial, out, peer=peer, dropout=0.0, setting=setting)
            except subprocess.CalledProcessError as error:
                print(f"TRL does not run with {setting}: exit code {error.returncode}", flush=True)
            else:
                times[setting] = sum(found["seconds"][1:])
        kept.write_text(json.dumps(times))
    times = json.loads(kept.read_text())
    print(f"TRL, seconds of {_TRIAL_STEPS - 1} steps: {times}", flush=True)
    return str(min(times, key=lambda name: float(times[name])))


def heldout_nll(work: dict[str, Any], weights: str) -> float:
    """Return the mean NLL per target token of the held-out rows under an adapter, by Hugging Face's forward pass."""
    from baldistill.student.files import AdapterFiles
    from baldistill.student.lora import attach_trained
    from baldistill.student.scoring import target_token_nll

    model = load_base_weights(resolve_base_model(_BASE), dtype=StudentDtype.FLOAT32)
    files = AdapterFiles(config=Path(work["adapter"]) / "adapter_config.json", weights=Path(weights))
    model = attach_trained(model, files).merge_and_unload()
    import torch

    with torch.inference_mode():
        return float(
            torch.cat([target_token_nll(model, [row], device=model.device) for row in work["held_out"]]).mean()
        )


def tokens_per_second(work: dict[str, Any], found: dict[str, Any]) -> float:
    """Return tokens without padding by seconds, the first step left out."""
    tokens = [sum(len(prompt) + len(target) for prompt, target in batch) for batch in work["batches"]]
    return sum(tokens[1:]) / float(sum(found["seconds"][1:]))


def measure(folder: Path, work: Path, *, peer: Path, pairs: int) -> dict[str, list[dict[str, Any]]]:
    """Measure the missing pairs; return all that were measured, by dropout."""
    content = json.loads(work.read_text())
    setting = fastest_setting(work, folder, peer=peer)
    found: dict[str, list[dict[str, Any]]] = {}
    for number in range(pairs):
        for dropout in _DROPOUTS:
            kept = folder / f"pair-{number}-{dropout}.json"
            if not kept.exists():
                # Who goes first alternates.
                sides = ("ours", "trl") if number % 2 == 0 else ("trl", "ours")
                pair = {
                    side: run_side(side, work, folder / f"{side}.json", peer=peer, dropout=dropout, setting=setting)
                    for side in sides
                }
                for side in pair.values():
                    side["heldout_nll"] = heldout_nll(content, side["weights"])
                kept.write_text(json.dumps(pair))
            pair = json.loads(kept.read_text())
            found.setdefault(str(dropout), []).append(pair)
            speeds = {side: tokens_per_second(content, one) for side, one in pair.items()}
            print(f"pair {number}, dropout {dropout}: tokens/s {speeds}", flush=True)
    return found


def result(work: dict[str, Any], found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the RESULT line: medians over the pairs."""

    def ratio(dropout: float) -> float:
        of_pairs = found[str(dropout)]
        return statistics.median(
            tokens_per_second(work, one["ours"]) / tokens_per_second(work, one["trl"]) for one in of_pairs
        )

    plain = found["0.0"]
    difference = max(
        abs(ours - theirs)
        for one in plain
        for ours, theirs in zip(one["ours"]["losses"], one["trl"]["losses"], strict=True)
    )
    heldout = statistics.median(one["ours"]["heldout_nll"] / one["trl"]["heldout_nll"] for one in plain)
    memory = statistics.median(one["ours"]["peak_mib"] / one["trl"]["peak_mib"] for one in plain)
    peaks = {side: round(statistics.median(one[side]["peak_mib"] for one in plain)) for side in ("ours", "trl")}
    print(f"types: {plain[0]['ours']['setting']}, TRL {plain[0]['trl']['setting']}; peak MiB {peaks}")
    return (
        f"RESULT trainer_tokens_ratio={ratio(0.0):.2f} trainer_tokens_ratio_dropout={ratio(0.1):.2f}"
        f" loss_difference={difference:.4f} heldout_nll_ratio={heldout:.4f} peak_memory_ratio={memory:.2f}"
        f" pairs={len(plain)} steps={len(work['batches'])}"
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as stream:
        return [json.loads(line) for line in stream]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="python of TRL's environment")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data sets")
    parser.add_argument("--folder", type=Path, default=Path(".baldistill/bench-trainer"), help="where pairs are kept")
    parser.add_argument("--pairs", type=int, default=5, help="pairs to have in the end")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of a run")
    parser.add_argument("--rows", type=int, default=4, help="rows of a step")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    work = write_work(options.data, folder, steps=options.steps, rows=options.rows)
    found = measure(folder, work, peer=options.peer, pairs=options.pairs)
    print(result(json.loads(work.read_text()), found))


if __name__ == "__main__":
    main(sys.argv[1:])
