"""Mathematical equality, asked of a real worker process; and what becomes of a question that it does not survive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from baldistill.tasks.answers import NO_ANSWER
from baldistill.tasks.comparison import RIGHT, TIMED_OUT, WRONG, Comparison, math_comparison
from baldistill.tasks.equivalence import ComparisonTimedOut, MathWorker

# A tower of powers: its value has more digits than there are atoms.
PATHOLOGICAL = "9^{9^{9^{9}}}"


@pytest.fixture(scope="module")
def compare() -> Iterator[Comparison]:
    with math_comparison(60.0) as opened:
        yield opened


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        (r"\frac{1}{2}", "1/2"),
        (r"\frac{1}{2}", "0.5"),
        ("0.5", r"\frac{1}{2}"),
        (r"\dfrac{1}{2}", ".5"),
        ("1/2", r"\frac12"),
        (r"1\frac{1}{2}", "3/2"),
        ("12", "12 apples"),
        (r"12\text{ cm}", "12"),
        ("70000", "$70,000"),
        ("18", "18 dollars"),
        (r"90^\circ", "90"),
        ("5", r"\$5.00"),
        ("5", "x = 5"),
        (r"x \in [-2,7]", "[-2, 7]"),
        (r"(2,\infty)", "(2, infinity)"),
        (r"(-\infty, 2) \cup (2, \infty)", r"(-\infty,2)\cup(2,\infty)"),
        (r"\{1,2\}", "{2, 1}"),
        ("1,2", "2, 1"),
        (r"\sqrt{2}", "sqrt(2)"),
        (r"\frac{\pi}{4}", "pi/4"),
        ("x^2+2x+1", "(x+1)^2"),
        ("2 + 3i", "3i+2"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"\text{Evelyn}", "evelyn"),
    ],
)
def test_these_are_equal(compare: Comparison, truth: str, answer: str) -> None:
    assert compare(answer, [truth]) == RIGHT


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        (r"\frac{1}{2}", "2"),
        ("42", "42 + 1"),
        ("42", "not 42"),
        ("2", "3, 2"),  # the last number of several is not the answer
        ("2", "two"),
        ("(0,1)", "[0,1)"),
        ("(1,2)", "(2,1)"),
        (r"\text{Evelyn}", "yEveln"),  # the same letters are no product here
        ("x^2", "x^3"),
        ("5", NO_ANSWER),
        ("5", r"\frac{"),
        ("5", r"\undefined{{{"),
        ("5", "Answer"),
    ],
)
def test_these_are_not(compare: Comparison, truth: str, answer: str) -> None:
    assert compare(answer, [truth]) == WRONG


def test_the_best_of_the_accepted_results_counts(compare: Comparison) -> None:
    assert compare("0.25", ["1/2", r"\frac{1}{4}"]) == RIGHT


def test_a_pathological_result_is_given_up_in_time_and_the_next_question_is_answered() -> None:
    with math_comparison(2.0) as compare:
        compare("1/2", ["0.5"])  # the process is up
        assert compare(PATHOLOGICAL, ["5"]) == TIMED_OUT
        assert compare("1/2", ["0.5"]) == RIGHT


def test_an_equal_alias_counts_though_another_could_not_be_compared() -> None:
    with math_comparison(2.0) as compare:
        assert compare("1/2", [PATHOLOGICAL, "0.5"]) == RIGHT


def test_a_worker_that_is_killed_is_replaced() -> None:
    with MathWorker(timeout_s=60.0) as worker:
        others = children_of(os.getpid())
        assert worker.are_equal("0.5", "1/2")
        (pid,) = children_of(os.getpid()) - others
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ComparisonTimedOut):
            worker.are_equal("0.5", "1/2")
        assert worker.are_equal("0.5", "1/2")
    assert children_of(os.getpid()) == others


def test_threads_share_a_worker_and_each_gets_its_own_answer() -> None:
    with MathWorker(timeout_s=60.0) as worker:
        answers: dict[int, bool] = {}
        others = children_of(os.getpid())

        def ask(number: int) -> None:
            answers[number] = worker.are_equal(str(number), "4/2")

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {number: number == 2 for number in range(8)}
        assert len(children_of(os.getpid()) - others) == 1


def test_a_worker_does_not_outlive_a_killed_parent_even_where_it_is_stuck() -> None:
    program = (
        "from baldistill.tasks.equivalence import MathWorker\n"
        "worker = MathWorker(timeout_s=5.0)\n"
        "worker.are_equal('1', '2')\n"
        "print('asking', flush=True)\n"
        f"worker.are_equal('5', {PATHOLOGICAL!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "asking\n"
        time.sleep(0.5)
        (worker,) = children_of(parent.pid)
        parent.kill()
    give_up_at = time.monotonic() + 30
    while is_math_worker(worker) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert not is_math_worker(worker)


def children_of(pid: int) -> set[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123  (procfs)
        return {int(child) for child in file.read().split() if is_math_worker(int(child))}


def is_math_worker(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123  (procfs)
            return b"math_worker" in file.read()
    except FileNotFoundError:
        return False
