"""What the `oracle` teacher needs of a data set, checked at submit."""

from __future__ import annotations

from baldistill.datasets.examples import Dataset
from baldistill.errors import InvalidInput
from baldistill.specs.methods import TailFilling, Target
from baldistill.specs.runspec import RunSpec


def check_oracle_data(spec: RunSpec, dataset: Dataset) -> None:
    """Raise InvalidInput where the run's method asks the oracle for what the data set does not have."""
    method = spec.resolved_method()
    if spec.teacher.kind != "oracle" or not method.has_stages:
        return
    if method.target is Target.RATIONALE and dataset.rationales is None:
        raise InvalidInput(
            f"the oracle explains with human rationales and data set {dataset.name} has none;"
            " set target: label, or import it with --rationales",
            field="target",
        )
    if method.tail is TailFilling.SYNTHESISE and dataset.oracle is None:
        raise InvalidInput(
            f"the oracle draws real items and data set {dataset.name} has none to spare;"
            f" make some with `baldistill data longtail {dataset.name}`, or import it with --oracle",
            field="teacher.kind",
        )
