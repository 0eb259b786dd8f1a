"""spec.json: everything that decides a prompt, a score or a row, frozen at submit (DESIGN 4)."""

from __future__ import annotations

import functools
from typing import Literal

import rfc8785
from pydantic import Field

from baldistill.artifacts.layout import RunLayout
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore
from baldistill.errors import NotKnown
from baldistill.specs.methods import Method
from baldistill.specs.runspec import RunSpec, SpecModel
from baldistill.tasks.registry import Task, task_of
from baldistill.tasks.templates import TaskTemplates

# Runs that one process is at work on at the same time, generously.
_PARSED_RUNS = 64


class FrozenDataset(SpecModel):
    name: str
    version: str
    sha256: str = Field(description="of the data set's manifest")


class FrozenBaseModel(SpecModel):
    name: str = Field(description="as the spec names it")
    weights_sha256: str = Field(description="of the safetensors files' digests, in name order; checked at load")


class FrozenRun(SpecModel):
    """A run as every service sees it. The person's spec plus all that was looked up once, at submit."""

    schema_version: Literal[1] = 1
    run_id: str
    spec: RunSpec
    dataset: FrozenDataset
    labels: tuple[str, ...] = Field(description="all labels in sorted order; none where answers are free text")
    show_labels_to_student: bool
    templates: TaskTemplates
    base_model: FrozenBaseModel
    price_version: str = Field(description="names the price that bounds and bookings use")

    @property
    def method(self) -> Method:
        return self.spec.resolved_method()

    @property
    def task(self) -> Task:
        """How answers are read and compared. Its prompts are in `templates`, as they were at submit."""
        return task_of(self.spec.task.kind)

    @property
    def layout(self) -> RunLayout:
        return RunLayout(tenant=self.spec.tenant, run_id=self.run_id)

    def canonical_json(self) -> bytes:
        """Return the RFC 8785 form: equal runs have equal bytes."""
        return bytes(rfc8785.dumps(self.model_dump(mode="json")))


def load_frozen_run(store: ArtifactStore, ref: ArtifactRef) -> FrozenRun:
    """Read a run's spec.json. Raises ArtifactMissing, ArtifactCorrupt."""
    return _parsed(store.read_bytes(ref))


# Every event of a run reads the same few kB; equal bytes are an equal, frozen value.
@functools.lru_cache(maxsize=_PARSED_RUNS)
def _parsed(data: bytes) -> FrozenRun:
    return FrozenRun.model_validate_json(data)


def find_run(store: ArtifactStore, *, tenant: str, run_id: str) -> tuple[FrozenRun, ArtifactRef]:
    """Return a run's spec.json by its name, and where it is. Raises NotKnown where no such run was submitted."""
    manifest = store.find_manifest(RunLayout(tenant=tenant, run_id=run_id).spec)
    if manifest is None:
        raise NotKnown(kind="run", name=run_id)
    spec = manifest.files["spec"]
    return load_frozen_run(store, spec), spec
