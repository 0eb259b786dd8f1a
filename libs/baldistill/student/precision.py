"""In which precision the frozen base computes, and how many threads make its bytes (DESIGN 5)."""

from __future__ import annotations

import enum

import torch

from baldistill.errors import InvalidInput


class StudentDtype(enum.Enum):
    """Of the frozen base. The adapter is always float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    NF4 = "nf4"

    @property
    def compute_dtype(self) -> torch.dtype:
        """What activations and merged weights are in."""
        return torch.float32 if self is StudentDtype.FLOAT32 else torch.bfloat16


def resolve_dtype(wanted: str) -> StudentDtype:
    """Return the dtype that `auto` means here: nf4 on CUDA, bfloat16 on CPUs that multiply it fast, else float32.

    Raises InvalidInput (field `student.dtype`) for nf4 without CUDA.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return StudentDtype.NF4
        return StudentDtype.BFLOAT16 if _cpu_multiplies_bfloat16() else StudentDtype.FLOAT32
    if wanted == "nf4" and not torch.cuda.is_available():
        raise InvalidInput("nf4 needs a CUDA device; use auto, bfloat16 or float32 here", field="student.dtype")
    return StudentDtype(wanted)


def compute_device() -> torch.device:
    """Return where student compute runs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def begin_student_compute(*, threads: int) -> None:
    """Fix what decides the bytes of a result on this machine; call at the start of every job, in its thread."""
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        torch.use_deterministic_algorithms(mode=True)
        # Else every new tensor is written once for nothing; no operation here reads what it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _cpu_multiplies_bfloat16() -> bool:
    """Tell whether bfloat16 is the faster type: by tiles (AMX), or by vectors where these are no slower than float32's.

    Intel's cores without AMX multiply bfloat16 at half the rate of float32 (ADR 42); AMD's at twice the rate.
    """
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("amx_bf16"):
        return True
    return bool(capabilities.get("avx512_bf16")) and "intel" not in str(capabilities.get("cpu_name", "")).lower()
