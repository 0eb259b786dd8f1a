"""One command distils each kind of task, and its report names the task's metric."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import ticket_rows, write_jsonl

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine

# head, middle, tail: with B = 16 over three domains the tail needs invented examples.
POOL, TEST = (20, 10, 3), (12, 12, 12)
Row = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One kind of task over data of three domains. row: (domain, number) -> input and answer."""

    kind: str
    domains: tuple[str, str, str]
    row: Callable[[str, int], tuple[str, str]]
    metric: str
    references: tuple[str, ...] = ("majority",)

    def rows(self, sizes: tuple[int, int, int], *, first: int) -> list[Row]:
        return [
            {"id": f"{domain}-{number}", "domain": domain, "input": text, "answer": answer}
            for domain, size in zip(self.domains, sizes, strict=True)
            for number in range(first, first + size)
            for text, answer in [self.row(domain, number)]
        ]


def classified(domain: str, number: int) -> tuple[str, str]:
    return f"{domain} question number {number}", domain


def tagged(domain: str, number: int) -> tuple[str, str]:
    extra = "; urgent" if number % 3 == 0 else ""
    return f"a {domain} note, number {number}{' right now' if extra else ''}", f"{domain}{extra}"


def chosen(domain: str, number: int) -> tuple[str, str]:
    options = "\n".join(f"{letter}. {domain} {number * 3 + place}" for place, letter in enumerate("ABC"))
    return f"Question: which is {domain} {number * 3 + number % 3}?\n{options}", "ABC"[number % 3]


def computed(domain: str, number: int) -> tuple[str, str]:
    sums = {"add": f"{number} + 1", "halve": f"half of {number}", "square": f"{number} squared"}
    results = {"add": str(number + 1), "halve": rf"\frac{{{number}}}{{2}}", "square": str(number * number)}
    return f"What is {sums[domain]}?", results[domain]


def answered(domain: str, number: int) -> tuple[str, str]:
    return (
        f"Context: the {domain} number {number} is called Item {number}.\nQuestion: what is it called?",
        f"Item {number}",
    )


TASKS = [
    Task(
        kind="classification",
        domains=("billing", "login", "gift"),
        row=classified,
        metric="f1",
        references=("majority", "tfidf_logistic_regression"),
    ),
    Task(
        kind="multi_label",
        domains=("billing", "login", "gift"),
        row=tagged,
        metric="set",
        references=("majority", "tfidf_logistic_regression"),
    ),
    Task(kind="multiple_choice", domains=("animals", "plants", "stones"), row=chosen, metric="accuracy"),
    Task(kind="math", domains=("add", "halve", "square"), row=computed, metric="accuracy"),
    Task(kind="abstractive_qa", domains=("street", "house", "room"), row=answered, metric="word_f1"),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_every_task_runs_to_its_end_and_its_metric_is_named(
    task: Task, baldistill: CommandLine, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "train.jsonl", task.rows(POOL, first=0))
    write_jsonl(tmp_path / "test.jsonl", task.rows(TEST, first=100))
    spec = baldistill.write_spec(
        task={"kind": task.kind},
        dataset={"name": "tickets", "test": "test.jsonl"},
        evaluation={"final": "all", "max_new_tokens": 8},
        teacher={"max_completion_tokens": 128},
    )
    ran = baldistill("run", spec, "--json")
    assert (ran.code, ran.document["state"]) == (0, "completed"), ran.err
    trained = sum(rows["trained"] for stage in ran.document["stages"] for rows in stage["rows"].values())
    assert trained == 16  # nothing of what the protocol teacher said was rejected
    assert all(not stage["rejections"] for stage in ran.document["stages"])
    final: dict[str, Any] = ran.document["stages"][-1]["metrics"]
    assert (final["metric"], final["items"], final["timed_out"]) == (task.metric, 36, 0)
    assert final["macro"] is not None
    assert all(final["domains"][name]["answer_nll"] > 0 for name in task.domains)
    assert set(ran.document["references"]) == set(task.references)
    shown = baldistill("report", "small").out
    assert f"macro {task.metric}" in shown
    assert f"{task.metric}: " in shown  # what it means


def test_an_accepted_alias_counts_in_the_report(baldistill: CommandLine, tmp_path: Path) -> None:
    task = TASKS[-1]
    train = write_jsonl(tmp_path / "train.jsonl", task.rows(POOL, first=0))
    test = write_jsonl(tmp_path / "test.jsonl", task.rows(TEST, first=100))
    spec = baldistill.write_spec(
        task={"kind": task.kind},
        dataset={"name": "tickets"},
        evaluation={"final": "all", "max_new_tokens": 8},
        method="random_ft",
        stages=1,
    )
    # The majority reference answers every item with one of the training answers: an alias makes that right.
    everything = [f"Item {number}" for number in range(20)]
    ids = [row["id"] for row in task.rows(TEST, first=100)]
    aliases = tmp_path / "aliases.jsonl"
    aliases.write_text("".join(json.dumps({"id": one, "answers": everything}) + "\n" for one in ids))
    assert baldistill("data", "import", "tickets", "--train", train, "--test", test, "--aliases", aliases).code == 0
    ran = baldistill("run", spec, "--json")
    assert ran.code == 0, ran.err
    assert ran.document["references"]["majority"]["micro"] == 1.0


def test_pairs_of_one_input_are_reported_with_their_ceiling(baldistill: CommandLine, tmp_path: Path) -> None:
    train = ticket_rows({"billing": 20, "login": 20})
    # 20 inputs, each with both answers: half of the pairs can be right.
    pairs = [
        {"id": f"both-{number}-{answer}", "domain": answer, "input": f"both of them {number}", "answer": answer}
        for number in range(20)
        for answer in ("billing", "login")
    ]
    write_jsonl(tmp_path / "train.jsonl", train)
    write_jsonl(tmp_path / "test.jsonl", pairs)
    spec = baldistill.write_spec(
        dataset={"test": "test.jsonl"}, evaluation={"final": "all"}, method="random_ft", stages=1
    )
    ran = baldistill("run", spec, "--json")
    assert ran.code == 0, ran.err
    final = ran.document["stages"][-1]["metrics"]
    assert (final["metric"], final["ceiling"]["micro"]) == ("pair", 0.5)
    # Notes are wrapped to the width of the table, which its figures decide.
    assert "Ceiling with one prediction an input: micro 0.500" in " ".join(baldistill("report", "small").out.split())


def test_a_test_label_that_the_pool_lacks_is_refused_before_anything_is_spent(
    baldistill: CommandLine, tmp_path: Path
) -> None:
    rows = ticket_rows({"billing": 20, "login": 20})
    write_jsonl(tmp_path / "train.jsonl", rows[:38])
    write_jsonl(tmp_path / "test.jsonl", [{**rows[39], "input": "a new one", "answer": "logout"}])
    refused = baldistill("plan", baldistill.write_spec(dataset={"test": "test.jsonl"}))
    assert refused.code == 65
    assert "test item 'login-19', answer 'logout'" in refused.err
    assert "no item of the pool has the label" in refused.err
    assert f"{baldistill.spec_path}" in refused.err


def test_one_domain_alone_is_distilled(baldistill: CommandLine, tmp_path: Path) -> None:
    task = Task(kind="multiple_choice", domains=("all", "all", "all"), row=chosen, metric="accuracy")
    write_jsonl(tmp_path / "train.jsonl", task.rows((20, 0, 0), first=0))
    write_jsonl(tmp_path / "test.jsonl", task.rows((30, 0, 0), first=100))
    spec = baldistill.write_spec(
        task={"kind": task.kind},
        dataset={"test": "test.jsonl"},
        evaluation={"final": "all", "max_new_tokens": 8},
        teacher={"max_completion_tokens": 128},
    )
    ran = baldistill("run", spec, "--json")
    assert (ran.code, ran.document["state"]) == (0, "completed"), ran.err
    final = ran.document["stages"][-1]["metrics"]
    assert final["macro"] == final["micro"] == final["domains"]["all"]["score"]
