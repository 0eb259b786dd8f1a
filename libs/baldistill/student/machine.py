"""What decides the bytes of student compute beside the spec: the kind of processor, and the versions of what computes."""

from __future__ import annotations

import importlib.metadata

import torch

# Our own passes are among what decides them.
_LIBRARIES = ("baldistill", "torch", "transformers", "peft")


def machine_kind() -> dict[str, str]:
    """Return what must be equal for equal bytes, by name; no host, no path."""
    capabilities = torch.cpu.get_capabilities()
    kind = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu": f"{capabilities.get('cpu_name', '')} {torch.backends.cpu.get_cpu_capability()}".strip(),
        "threads": str(torch.get_num_threads()),
    }
    return kind | {name: importlib.metadata.version(name) for name in _LIBRARIES}
