"""How the pipeline's benchmark counts, by hand."""

from __future__ import annotations

import os

from tests.bench.bench_pipeline import percentile
from tests.bench.pipeline.processes import age_s, processor_s
from tests.bench.useful_work import gaps_s, union_s


def test_work_of_several_threads_at_once_counts_once() -> None:
    assert union_s([(5.0, 6.0), (1.0, 3.0), (2.0, 4.0)]) == 4.0


def test_what_no_work_covers_is_told_apart_by_where_it_is() -> None:
    intervals = [(2.0, 4.0), (3.0, 5.0), (8.0, 9.0)]
    assert gaps_s(intervals, began_s=0.0, ended_s=10.0) == {"before_s": 2.0, "between_s": 3.0, "after_s": 1.0}
    assert gaps_s([], began_s=0.0, ended_s=10.0) == {"before_s": 10.0, "between_s": 0.0, "after_s": 0.0}


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [1.0, 51.0, 100.0, 100.0]
    assert percentile([7.0], 99) == 7.0


def test_a_process_has_an_age_and_used_a_processor() -> None:
    assert age_s() > 0
    assert processor_s(os.getpid()) > 0
