"""Where training stands, in the artifact store: safetensors alone, so that resuming is exact (DESIGN 5)."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from baldistill.artifacts.layout import StageLayout
from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.errors import ArtifactCorrupt, ArtifactMissing
from baldistill.student.machine import machine_kind

# The newest can be damaged; then the one before serves.
_KEPT = 2
_ROLE = "checkpoint"
# Of the tensors' names; a checkpoint of another one is begun anew.
_FORMAT = 2

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """All that training changes as it goes.

    parameters: of the adapter, by name.   step: optimizer steps done.   epoch_nll: nats, epoch_tokens: target tokens,
    both summed since the epoch began.   rows_at_once: what memory allowed so far.   bit_exact: nothing has happened yet
    that makes other bytes. Data's position and dropout's numbers follow from the step.
    """

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    rows_at_once: int
    bit_exact: bool = True
    step: int = 0
    epoch_nll: float = 0.0
    epoch_tokens: int = 0

    def to_tensors(self) -> dict[str, Tensor]:
        """Return everything as tensors on the CPU."""
        tensors = {
            "progress/step": torch.tensor(self.step),
            "progress/epoch_nll": torch.tensor(self.epoch_nll, dtype=torch.float64),
            "progress/epoch_tokens": torch.tensor(self.epoch_tokens),
            "progress/rows_at_once": torch.tensor(self.rows_at_once),
            "progress/bit_exact": torch.tensor(self.bit_exact),
        }
        for name, parameter in self.parameters.items():
            tensors[f"adapter/{name}"] = parameter.detach().cpu().contiguous()
            for moment, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer/{moment}/{name}"] = value.detach().cpu().contiguous()
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `to_tensors` returned, for the same adapter."""
        self.step = int(tensors["progress/step"])
        self.epoch_nll = float(tensors["progress/epoch_nll"])
        self.epoch_tokens = int(tensors["progress/epoch_tokens"])
        self.rows_at_once = min(self.rows_at_once, int(tensors["progress/rows_at_once"]))
        self.bit_exact = bool(tensors["progress/bit_exact"])
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"adapter/{name}"])
                moments = [key for key in tensors if key.startswith("optimizer/") and key.endswith(f"/{name}")]
                self.optimizer.state[parameter] = {
                    # Adam counts its steps on the CPU, whatever the device of the parameter.
                    key.split("/")[1]: tensors[key].to("cpu" if key.split("/")[1] == "step" else parameter.device)
                    for key in moments
                }


class Checkpoints:
    """A stage's checkpoints."""

    def __init__(self, store: ArtifactStore, layout: StageLayout) -> None:
        self._store = store
        self._layout = layout

    def save(self, state: TrainingState) -> None:
        """Store where training stands and forget all but the newest two. Raises StorageFull."""
        ref = self._store.put_bytes(
            folder=self._layout.checkpoint_folder(state.step),
            name="checkpoint.safetensors",
            data=save(state.to_tensors()),
        )
        self._store.create_manifest(
            Manifest(
                key=self._layout.checkpoint(state.step),
                files={_ROLE: ref},
                attributes={"format": _FORMAT, "machine": machine_kind()},
            )
        )
        for key in self._keys()[:-_KEPT]:
            self._store.delete_folder(prefix=key.rpartition("/")[0])

    def restore_newest(self, state: TrainingState) -> bool:
        """Go on from the newest checkpoint that is whole; False where there is none.

        One that was made on another kind of machine serves too; what comes of it is marked as not bit-exact.
        """
        for key in reversed(self._keys()):
            manifest = self._store.find_manifest(key)
            if manifest is None:
                continue
            try:
                tensors = self._load(manifest)
            except (ArtifactCorrupt, ArtifactMissing) as error:
                _log.warning("checkpoint is of no use: the one before it is taken", key=key, reason=str(error))
                # Deleted, or its create-only manifest would keep its repaired successor out.
                self._store.delete_folder(prefix=key.rpartition("/")[0])
                continue
            state.restore(tensors)
            if manifest.attributes.get("machine") != machine_kind():
                _log.warning("checkpoint of another kind of machine: not bit-exact", key=key)
                state.bit_exact = False
            return True
        return False

    def delete(self) -> None:
        """Forget all: the student that they led to is stored."""
        self._store.delete_folder(prefix=self._layout.checkpoints_folder)

    def _load(self, manifest: Manifest) -> dict[str, Tensor]:
        if manifest.attributes.get("format") != _FORMAT:
            raise ArtifactMissing(key=manifest.key)
        tensors: dict[str, Tensor] = load(self._store.read_bytes(manifest.files[_ROLE]))
        return tensors

    def _keys(self) -> list[str]:
        return list(self._store.list_manifests(prefix=self._layout.checkpoints_folder))
