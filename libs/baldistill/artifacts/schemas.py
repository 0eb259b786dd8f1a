"""What is inside the files that services hand to each other: Parquet columns and the plan's JSON (DESIGN 2, 5).

No time, path, host, run id, attempt or cost in any of them: they are equal for equal specs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

EXAMPLES = pa.schema([("id", pa.string()), ("domain", pa.string()), ("input", pa.string()), ("answer", pa.string())])

# Beside a data set's rows, by their id: a person's chain of thought, and every accepted answer.
RATIONALES = pa.schema([("id", pa.string()), ("rationale", pa.string())])
ALIASES = pa.schema([("id", pa.string()), ("answers", pa.list_(pa.string()))])

# ifd: null where the student wrote nothing. NLLs: mean nats per token of the written answer. flagged: at the length
# limit or looping; still eligible.
SCORES = pa.schema(
    [
        ("id", pa.string()),
        ("domain", pa.string()),
        ("ifd", pa.float64()),
        ("conditioned_nll", pa.float64()),
        ("unconditioned_nll", pa.float64()),
        ("generated_tokens", pa.int32()),
        ("hit_length_limit", pa.bool_()),
        ("looping", pa.bool_()),
    ]
)

# In the order of choice: domains by name, within a domain best first. ifd: null where it was chosen at random.
SELECTION = pa.schema([*EXAMPLES, ("ifd", pa.float64())])

# One row per request, in request order. row_id: the example's id, or `synthetic/<stage>/<domain>/<sample>`.
# outcome: accepted | rejected | unanswered. reason: why it was rejected or not answered, empty otherwise.
ANNOTATIONS = pa.schema(
    [
        ("row_id", pa.string()),
        ("domain", pa.string()),
        ("input", pa.string()),
        ("rationale", pa.string()),
        ("answer", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
    ]
)

# A stage's training rows. origin: real | synthetic | duplicate. rationale: empty for label-only targets.
BATCH = pa.schema(
    [
        ("row_id", pa.string()),
        ("domain", pa.string()),
        ("origin", pa.string()),
        ("input", pa.string()),
        ("rationale", pa.string()),
        ("answer", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPlan:
    """One domain in one stage, in rows. required = select + deficit wherever the policy divides by domain."""

    required: int
    available: int
    select: int
    deficit: int

    @property
    def is_head(self) -> bool:
        """Head where the pool has what is asked for (DESIGN 2.2)."""
        return self.available >= self.required


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """A stage's plan. quota: rows of the stage. pooled: the quota is not divided; `domains` then tells only what is available."""

    stage: int
    quota: int
    pooled: bool
    domains: Mapping[str, DomainPlan]

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values, domains in name order."""
        return {
            "stage": self.stage,
            "quota": self.quota,
            "pooled": self.pooled,
            "domains": {
                name: {"required": d.required, "available": d.available, "select": d.select, "deficit": d.deficit}
                for name, d in sorted(self.domains.items())
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> StagePlan:
        """Read what `to_json` wrote."""
        domains = data["domains"]
        assert isinstance(domains, Mapping)
        return cls(
            stage=int(str(data["stage"])),
            quota=int(str(data["quota"])),
            pooled=bool(data["pooled"]),
            domains={name: DomainPlan(**values) for name, values in domains.items()},
        )
