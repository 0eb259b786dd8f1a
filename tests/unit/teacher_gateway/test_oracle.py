"""The oracle gives what people wrote, each item once, and errs exactly as often as it was told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from baldistill.datasets.examples import Example
from baldistill.tasks.answers import parse_annotation, parse_synthesis
from services.teacher_gateway.oracle import NO_RATIONALE, NOTHING_LEFT, Oracle, in_drawing_order
from services.teacher_gateway.ports import RequestSubject

LABELS = ("billing", "login", "shipping")


def items(domain: str, count: int) -> list[Example]:
    return [
        Example(example_id=f"{domain}-{n}", domain=domain, input=f"{domain} {n}", answer=domain) for n in range(count)
    ]


def oracle(
    *,
    pool: Sequence[Example] = (),
    rationales: Mapping[str, str] | None = None,
    labels: Sequence[str] = LABELS,
    seed: int = 1,
    noise: float = 0.0,
) -> Oracle:
    drawn = in_drawing_order(pool, seed=seed)
    return Oracle(items=drawn, rationales=rationales or {}, labels=labels, seed=seed, label_noise=noise)


def test_a_domain_is_drawn_without_replacement_until_nothing_is_left() -> None:
    teacher = oracle(pool=[*items("login", 5), *items("billing", 2)])
    drawn = [parse_synthesis(teacher.answer(RequestSubject(domain="login", draw=n))) for n in range(5)]
    assert sorted(one.input or "" for one in drawn if one) == [f"login {n}" for n in range(5)]
    assert {one.answer for one in drawn if one} == {"login"}
    assert teacher.answer(RequestSubject(domain="login", draw=5)) == NOTHING_LEFT
    assert teacher.answer(RequestSubject(domain="unknown")) == NOTHING_LEFT
    assert parse_synthesis(NOTHING_LEFT) is None


def test_the_order_is_the_seed_s_whatever_the_order_of_the_file() -> None:
    pool = items("login", 30)
    first, again, other = (in_drawing_order(pool, seed=seed)["login"] for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(one.example_id for one in other) == sorted(one.example_id for one in pool)


def test_annotations_are_human_rationales_that_end_in_the_true_answer() -> None:
    example = Example(example_id="m1", domain="algebra", input="2 + 2?", answer="4")
    teacher = oracle(rationales={"m1": "Two and two.\nAnswer: maybe 5"}, labels=(), noise=1.0)
    parsed = parse_annotation(teacher.answer(RequestSubject(domain="algebra", example=example)))
    assert parsed is not None
    assert (parsed.rationale, parsed.answer) == ("Two and two.\nAnswer: maybe 5", "4")
    unknown = Example(example_id="m2", domain="algebra", input="?", answer="4")
    assert teacher.answer(RequestSubject(domain="algebra", example=unknown)) == NO_RATIONALE
    assert parse_annotation(NO_RATIONALE) is None


def test_a_drawn_item_brings_its_own_rationale() -> None:
    teacher = oracle(pool=items("login", 1), rationales={"login-0": "It names a password."})
    parsed = parse_synthesis(teacher.answer(RequestSubject(domain="login")))
    assert parsed is not None
    assert parsed.rationale == "It names a password."


def test_noise_changes_the_label_of_its_share_and_nothing_else() -> None:
    pool = items("login", 2000)
    clean, noisy = oracle(pool=pool), oracle(pool=pool, noise=0.2)
    wrong = []
    for draw in range(2000):
        subject = RequestSubject(domain="login", draw=draw)
        before, after = parse_synthesis(clean.answer(subject)), parse_synthesis(noisy.answer(subject))
        assert before is not None
        assert after is not None
        assert before.input == after.input
        wrong.append(after.answer)
    assert set(wrong) == set(LABELS)
    # Binomial(2000, 0.2): 400 +- 4 standard deviations of 17.9.
    assert 328 < sum(label != "login" for label in wrong) < 472
    assert oracle(pool=pool, noise=0.2).answer(RequestSubject(domain="login", draw=7)) == noisy.answer(
        RequestSubject(domain="login", draw=7)
    )


def test_a_wrong_answer_of_free_text_is_another_answer_of_the_domain() -> None:
    pool = [Example(example_id=f"m{n}", domain="algebra", input=f"q{n}", answer=str(n % 3)) for n in range(9)]
    teacher = oracle(pool=pool, labels=(), noise=1.0)
    truth = {one.input: one.answer for one in pool}
    for draw in range(9):
        parsed = parse_synthesis(teacher.answer(RequestSubject(domain="algebra", draw=draw)))
        assert parsed is not None
        assert parsed.input is not None
        assert parsed.answer in {"0", "1", "2"} - {truth[parsed.input]}
