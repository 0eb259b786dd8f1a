"""Where things lie in the store: one place that knows the keys of DESIGN 5."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLayout:
    """Keys of one stage of a run. Stage 0 is the zero-shot student: it has metrics only."""

    folder: str

    @property
    def plan(self) -> str:
        return f"{self.folder}/plan.json"

    @property
    def candidates(self) -> str:
        return f"{self.folder}/scores/candidates.json"

    def score_shard(self, shard: int) -> str:
        return f"{self.folder}/scores/shard-{shard:05d}.json"

    @property
    def selection(self) -> str:
        return f"{self.folder}/selection.json"

    @property
    def annotation_requests(self) -> str:
        return f"{self.folder}/annotations/requests.json"

    def annotation_shard(self, phase: str, shard: int) -> str:
        return f"{self.folder}/annotations/{phase}-{shard:05d}.json"

    @property
    def annotations_closed(self) -> str:
        """Manifest that closes the annotation phase, before synthesis begins."""
        return f"{self.folder}/annotations/closed.json"

    @property
    def replacements(self) -> str:
        """Manifest that orders replacements for rejected examples, where some are ordered."""
        return f"{self.folder}/annotations/replacements.json"

    @property
    def batch(self) -> str:
        return f"{self.folder}/batch.json"

    @property
    def student(self) -> str:
        return f"{self.folder}/student.json"

    @property
    def metrics(self) -> str:
        return f"{self.folder}/metrics.json"

    def checkpoint_folder(self, step: int) -> str:
        """Folder of one checkpoint, manifest included: it is deleted as a whole when newer ones are there."""
        return f"{self.checkpoints_folder}/step-{step:07d}"

    def checkpoint(self, step: int) -> str:
        return f"{self.checkpoint_folder(step)}/checkpoint.json"

    @property
    def checkpoints_folder(self) -> str:
        return f"{self.folder}/checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLayout:
    """Keys of one run."""

    tenant: str
    run_id: str

    @property
    def folder(self) -> str:
        return f"tenants/{self.tenant}/runs/{self.run_id}"

    @property
    def spec(self) -> str:
        return f"{self.folder}/spec.json"

    @property
    def report(self) -> str:
        return f"{self.folder}/report.json"

    def stage(self, stage: int) -> StageLayout:
        return StageLayout(folder=f"{self.folder}/stage-{stage:02d}")


def dataset_manifest(*, tenant: str, name: str, version: str) -> str:
    """Key of a data set version's manifest."""
    return f"tenants/{tenant}/datasets/{name}/{version}.json"


def dataset_folder(*, tenant: str, name: str, version: str) -> str:
    """Folder of a data set version's files."""
    return f"tenants/{tenant}/datasets/{name}/{version}"


def dataset_imports(*, tenant: str, name: str) -> str:
    """Folder of a data set's import log: which version became the newest, in what order."""
    return f"{datasets_folder(tenant=tenant)}/{name}/imports"


def dataset_import(*, tenant: str, name: str, sequence: int) -> str:
    """Key of the `sequence`th entry (from 1) of a data set's import log."""
    return f"{dataset_imports(tenant=tenant, name=name)}/{sequence:08d}.json"


def base_model_manifest(*, name: str) -> str:
    """Key of a mirrored base model's manifest. name: as specs name it, e.g. a hub id."""
    return f"models/{name}.json"


def base_model_folder(*, name: str) -> str:
    """Folder of a mirrored base model's files."""
    return f"models/{name}"


def datasets_folder(*, tenant: str) -> str:
    """Folder of all data sets of a tenant."""
    return f"tenants/{tenant}/datasets"


def runs_folder(*, tenant: str) -> str:
    """Folder of all runs of a tenant."""
    return f"tenants/{tenant}/runs"


def evaluation_manifest(*, tenant: str, name: str) -> str:
    """Key of what an evaluation outside of a run came to."""
    return f"tenants/{tenant}/evaluations/{name}.json"


def scoring_manifest(*, tenant: str, name: str) -> str:
    """Key of what a scoring outside of a run came to."""
    return f"tenants/{tenant}/scorings/{name}.json"


def promoted_student(*, tenant: str, name: str, version: str) -> str:
    """Key of a student in the registry: which run and stage it is of."""
    return f"{promoted_students(tenant=tenant)}/{name}/{version}.json"


def promoted_students(*, tenant: str) -> str:
    """Folder of a tenant's registry of students."""
    return f"tenants/{tenant}/students"
