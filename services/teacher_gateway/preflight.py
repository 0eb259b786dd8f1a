"""What is checked before a cent is spent: the teacher has a price, answers, and takes our key."""

from __future__ import annotations

from baldistill.specs.frozen import FrozenRun
from baldistill.tasks.bounds import price_of
from services.teacher_gateway.ports import Teachers
from services.teacher_gateway.run_budgets import asks_the_teacher


def check_teacher(frozen: FrozenRun, *, teachers: Teachers) -> None:
    """Check a run's teacher. A method that makes no call needs none.

    Raises UnpricedTeacher, InvalidInput (no key), TeacherRefused, DependencyUnavailable.
    """
    if not asks_the_teacher(frozen):
        return
    price_of(frozen.spec.teacher)
    teachers.client_for(frozen.spec.teacher).check()
