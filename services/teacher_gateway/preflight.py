"""What is checked before a cent is spent: the teacher has a price, answers, and takes our key."""

from __future__ import annotations

from baldistill.specs.runspec import TeacherSpec
from baldistill.tasks.bounds import price_of
from services.teacher_gateway.ports import Teachers


def check_teacher(teacher: TeacherSpec, *, teachers: Teachers) -> None:
    """Check a teacher, at no cost.

    Raises UnpricedTeacher, InvalidInput (no key), TeacherRefused, DependencyUnavailable.
    """
    price_of(teacher)
    teachers.client_for(teacher).check()
