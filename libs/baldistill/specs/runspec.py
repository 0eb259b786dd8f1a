"""RunSpec: what a person writes in YAML. Unknown keys are refused; every default is said here."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from baldistill.specs.methods import PRESETS, BalancingPolicy, HeadSelection, Method, TailFilling, Target, refusal_of
from baldistill.tasks.kinds import TaskKind

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class SpecModel(BaseModel):
    """Frozen and closed; the descriptions go into the JSON Schema that editors show."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OnExhausted(Enum):
    """What happens when the budget ends before the run does."""

    FINISH = "finish"
    PAUSE = "pause"


class DatasetSpec(SpecModel):
    name: Slug = Field(description="name under which the data set was imported, or is imported from `train`")
    version: str | None = Field(default=None, description="version to use; default: the newest at submit")
    train: str | None = Field(
        default=None, description="file to import where the data set is not there yet; relative to the spec file"
    )
    test: str | None = Field(default=None, description="test file that belongs to `train`; default: a held-out split")
    domains: tuple[str, ...] = Field(default=(), description="domains that must have items; default: those found")


class MethodSpec(SpecModel):
    policy: BalancingPolicy = Field(description="how the budget is divided over the domains")
    head: HeadSelection = Field(description="how a head domain's examples are chosen")
    tail: TailFilling = Field(description="what a tail domain's deficit is filled with")


class BudgetSpec(SpecModel):
    examples: int = Field(ge=1, description="B: training rows asked for over all stages")
    calls: int | None = Field(
        default=None,
        ge=0,
        description="ceiling of paid teacher calls; default: exactly the method's calls, higher leaves room for lost calls",
    )
    tokens: int | None = Field(
        default=None, ge=0, description="ceiling of teacher tokens, prompt and completion together"
    )
    usd: Decimal | None = Field(default=None, ge=0, description="ceiling of teacher cost in USD")
    on_exhausted: OnExhausted = Field(
        default=OnExhausted.FINISH, description="finish: train on what there is; pause: wait for a top-up"
    )


class PriceSpec(SpecModel):
    input_usd_per_million_tokens: Decimal = Field(ge=0, description="price of prompt tokens")
    output_usd_per_million_tokens: Decimal = Field(ge=0, description="price of completion tokens")


class ProtocolTeacherSpec(SpecModel):
    """Behaviour of the in-process `protocol` teacher, which answers by fixed rules: no quality claim."""

    latency_s: float = Field(default=0.0, ge=0, description="seconds before each answer")
    unparsable_share: float = Field(
        default=0.0, ge=0, le=1, description="share of requests answered without the agreed form"
    )
    wrong_label_share: float = Field(
        default=0.0, ge=0, le=1, description="share of annotations that end in another label"
    )
    server_error_share: float = Field(default=0.0, ge=0, le=1, description="share of attempts answered with status 500")


class OracleTeacherSpec(SpecModel):
    """The in-process `oracle` teacher gives what people wrote: an upper bound, no claim about any real teacher."""

    label_noise: float = Field(
        default=0.0, ge=0, le=1, description="share of synthesised examples that get a wrong answer, chosen by the seed"
    )


class KeyLimitsSpec(SpecModel):
    """What each of the teacher's keys may do, over the tenant's runs and all replicas of the gateway. None: no limit of ours."""

    calls_at_once: int | None = Field(default=None, ge=1, le=10_000, description="calls under way at once")
    requests_per_minute: int | None = Field(default=None, ge=1, description="calls in any 60 s")
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="prompt and completion tokens in any 60 s; a call counts its bound until it ends",
    )


class TeacherSpec(SpecModel):
    kind: Literal["openai", "protocol", "oracle"] = Field(
        default="openai",
        description=(
            "openai: any OpenAI-compatible URL; protocol: in-process, fixed rules; oracle: in-process, human rationales"
            " and real items of the data set; the last two are free of charge unless priced"
        ),
    )
    model: str = Field(default="protocol", description="model name sent to the teacher")
    base_url: str | None = Field(
        default=None, description="URL of the API, e.g. https://api.openai.com/v1; required for kind openai"
    )
    api_key_env: str = Field(
        default="OPENAI_API_KEY", description="environment variable that holds the key; never the key itself"
    )
    more_api_key_envs: tuple[str, ...] = Field(
        default=(),
        description="environment variables of further keys; calls are spread over all, a refused key is rested",
    )
    key_limits: KeyLimitsSpec = Field(
        default_factory=KeyLimitsSpec,
        description="limits of each key, shared by the tenant's runs and all replicas; the operator's come before them",
    )
    price: PriceSpec | None = Field(
        default=None,
        description="price of the model; default: the price file's, else the published one; an unpriced model is refused",
    )
    reuse: Literal["run", "tenant"] = Field(
        default="run",
        description="tenant: an annotation that another run of this tenant paid for is taken instead of bought again",
    )
    concurrency: int = Field(default=8, ge=1, le=1024, description="requests under way at once")
    timeout_s: float = Field(default=60.0, gt=0, description="seconds until a call is given up and booked as UNKNOWN")
    max_completion_tokens: int = Field(
        default=256, ge=1, description="ceiling of tokens per answer; the reserve is made for it"
    )
    rows_per_shard: int = Field(
        default=32,
        ge=1,
        description="requests per shard of teacher work, about a minute at eight calls of 15 s at once",
    )
    synthesis_temperature: float = Field(
        default=0.8, ge=0, le=2, description="sampling temperature of synthesis; annotation is at 0"
    )
    max_attempts: int = Field(default=4, ge=1, description="attempts per request over 429, 5xx and UNKNOWN outcomes")
    errors_are_free: bool = Field(default=True, description="the provider does not bill answers with status 5xx")
    protocol: ProtocolTeacherSpec = Field(default_factory=ProtocolTeacherSpec, description="behaviour of kind protocol")
    oracle: OracleTeacherSpec = Field(default_factory=OracleTeacherSpec, description="behaviour of kind oracle")

    @model_validator(mode="after")
    def _url_where_needed(self) -> Self:
        if self.api_key_env in self.more_api_key_envs:
            raise ValueError("more_api_key_envs: names api_key_env again; each key is named once")
        if self.kind == "openai" and self.base_url is None:
            raise ValueError("base_url: required for kind openai (e.g. https://api.openai.com/v1)")
        return self


class SelectionSpec(SpecModel):
    candidates_per_pick: int | Literal["all"] = Field(
        default=4, description="candidates scored per wanted example; all = the paper"
    )
    max_new_tokens: int = Field(
        default=200, ge=1, description="longest answer that the student writes while being scored, in tokens"
    )
    ifd_max: float | None = Field(
        default=None, gt=0, description="candidates with a higher IFD are left out; off as in the paper"
    )
    drop_flagged: bool = Field(
        default=False,
        description="leave out candidates whose answer loops or ends at the length limit; off as in the paper",
    )
    rows_per_shard: int = Field(default=64, ge=1, description="candidates per scoring shard, about a minute of work")
    shards_in_flight: int = Field(default=16, ge=1, description="shards of a run planned at once, in each fan-out")

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if isinstance(self.candidates_per_pick, int) and self.candidates_per_pick < 1:
            raise ValueError("candidates_per_pick must be at least 1, or all")
        return self


class SynthesisSpec(SpecModel):
    checks: Literal["none", "format", "full"] = Field(
        default="format",
        description=(
            "format: parsable, non-empty, right label; full: besides no near-duplicate of pool, test set and batch;"
            " none: as in the paper, only parsable"
        ),
    )
    near_duplicate_similarity: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="with full: share of common shingles (Jaccard) from which on two are near-duplicates",
    )
    shingle_characters: int = Field(default=5, ge=1, le=50, description="with full: characters of a shingle")
    replace_rejected: bool = Field(
        default=True,
        description=(
            "with format or full: what was rejected is asked for once more, by the calls that budget.calls has beyond"
            " budget.examples"
        ),
    )
    demonstrations: int = Field(default=3, ge=1, le=10, description="examples of the domain shown in the prompt")


class LoraSpec(SpecModel):
    r: Literal[8, 16, 32, 64] = Field(default=8, description="rank")
    alpha: int = Field(default=16, ge=1, description="scale is alpha / r")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout on the adapter's input")
    targets: tuple[str, ...] = Field(
        default=("q_proj", "v_proj"), min_length=1, description="names of adapted linear layers"
    )


class TrainingSpec(SpecModel):
    learning_rate: float = Field(default=2e-4, gt=0, description="constant")
    epochs: int = Field(default=5, ge=1, description="passes over the batch of all stages so far")
    batch_size: int = Field(default=16, ge=1, description="examples per optimizer step")
    micro_batch_size: int = Field(default=16, ge=1, description="examples per forward pass; smaller saves memory")
    max_grad_norm: float = Field(default=0.3, gt=0, description="gradients are clipped to this norm")
    max_tokens: int = Field(
        default=1024, ge=32, description="prompt and target together; longer inputs are cut and counted"
    )
    checkpoint_every_steps: int = Field(default=20, ge=1, description="optimizer steps between checkpoints, at most")
    checkpoint_every_minutes: float = Field(default=5.0, gt=0, description="minutes between checkpoints, at most")
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="that compute a training together on one machine, under torchrun, each with `threads`",
    )


class StudentSpec(SpecModel):
    base: str = Field(
        default="smollm2-135m-instruct",
        description="smollm2-135m-instruct (the demo student), a local folder, or a Hugging Face id that is in the local cache",
    )
    prompt_style: Literal["chat", "plain"] = Field(
        default="chat", description="chat: the tokenizer's template; plain: system and prompt as text"
    )
    dtype: Literal["auto", "float32", "bfloat16", "nf4"] = Field(
        default="auto",
        description="of the frozen base; auto: nf4 on CUDA, bfloat16 on CPUs that are fast at it, else float32",
    )
    cache_mib: int = Field(
        default=2048, ge=1, description="memory for keys and values of texts being written; bounds their number, in MiB"
    )
    lora: LoraSpec = Field(default_factory=LoraSpec)
    training: TrainingSpec = Field(default_factory=TrainingSpec)


class EvaluationSpec(SpecModel):
    per_domain: int = Field(default=20, ge=1, description="test items per domain after stages 0 .. K-1")
    final: int | Literal["all", "per_domain"] = Field(
        default="all",
        description="test items after the last stage: all, a number over all domains, or per_domain of each",
    )
    max_new_tokens: int = Field(default=200, ge=1, description="longest answer in tokens")
    batch_size: int = Field(default=64, ge=1, description="prompts answered at once, here and in selection")
    parity_items: int = Field(
        default=50,
        ge=0,
        description="test items on which the run's last student, exported and loaded by a fresh process, must write what it"
        " writes here, before it counts as trained; 0: it is checked when it is exported, not before",
    )


class TaskSpec(SpecModel):
    kind: TaskKind = Field(
        default=TaskKind.CLASSIFICATION, description="what an answer is and how it is scored (docs/reference/tasks.md)"
    )
    list_labels: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="classification, multi_label: show the labels to the student; auto: where there are at most 16",
    )
    comparison_timeout_s: float = Field(
        default=5.0, gt=0, description="math: seconds until a comparison is given up; the answer then counts as wrong"
    )


class RunSpec(SpecModel):
    """One run of multi-stage balanced distillation."""

    name: Slug = Field(description="names the run within its tenant; the same name again resumes it")
    tenant: Slug = Field(default="default", description="who owns the run and its budget")
    dataset: DatasetSpec
    task: TaskSpec = Field(default_factory=TaskSpec)
    method: str | MethodSpec = Field(
        default="baldistill_a", description=f"one of {', '.join(PRESETS)}, or a mix of policy, head, tail"
    )
    target: Target | None = Field(default=None, description="what the student learns to write; default: the method's")
    stages: int = Field(default=3, ge=1, description="K")
    seed: int = Field(default=1, ge=0, description="of every random decision")
    threads: int = Field(default=2, ge=1, description="CPU threads of student compute; part of what makes bytes equal")
    budget: BudgetSpec
    teacher: TeacherSpec
    selection: SelectionSpec = Field(default_factory=SelectionSpec)
    synthesis: SynthesisSpec = Field(default_factory=SynthesisSpec)
    student: StudentSpec = Field(default_factory=StudentSpec)
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.method, str) and self.method not in PRESETS:
            raise ValueError(f"method: unknown preset '{self.method}'; one of {', '.join(PRESETS)}")
        if (reason := refusal_of(self.resolved_method())) is not None:
            raise ValueError(f"method: {reason}")
        if self.stages > self.budget.examples:
            raise ValueError(
                f"stages: {self.stages} stages cannot share a budget of {self.budget.examples} examples; use at most that many"
            )
        return self

    def resolved_method(self) -> Method:
        """Return the method with its target."""
        if isinstance(self.method, str):
            base = PRESETS[self.method]
        else:
            base = Method(policy=self.method.policy, head=self.method.head, tail=self.method.tail)
        return Method(policy=base.policy, head=base.head, tail=base.tail, target=self.target or base.target)
