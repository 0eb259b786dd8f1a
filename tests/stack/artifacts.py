"""What a run left in a store, to compare with the same spec's run elsewhere (DESIGN 5, same bytes)."""

from __future__ import annotations

from baldistill.artifacts.layout import RunLayout
from baldistill.artifacts.ports import ArtifactStore, require_manifest


def data_files(store: ArtifactStore, *, tenant: str, run_id: str) -> dict[tuple[str, str], str]:
    """Return the sha256 of every file that a manifest of the run names, read and checked, by (manifest, role).

    The spec itself is left out: it holds the run's name and its teacher's address.
    """
    prefix = RunLayout(tenant=tenant, run_id=run_id).folder
    found = {}
    for key in store.list_manifests(prefix=prefix):
        for role, ref in require_manifest(store, key).files.items():
            if role == "spec":
                continue
            store.read_bytes(ref)
            found[key.removeprefix(f"{prefix}/"), role] = ref.sha256
    return found


def differing(one: dict[tuple[str, str], str], other: dict[tuple[str, str], str]) -> list[str]:
    """Return the files that only one of two runs has, or that have other bytes, by name."""
    names = sorted(one.keys() | other.keys())
    return ["/".join(name) for name in names if one.get(name) != other.get(name)]
