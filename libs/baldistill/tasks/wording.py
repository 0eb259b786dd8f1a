"""The words of every task's prompts. What is frozen in old runs is theirs; a change here is for new runs only.

All end in the same `Answer:` line, so that one reader finds the final answer of teacher and student (tasks.answers).
"""

from __future__ import annotations

from baldistill.tasks.templates import TaskTemplates

_RATIONALE_TARGET = "{{ rationale }}\nAnswer: {{ answer }}"
_LABEL_TARGET = "Answer: {{ answer }}"
_THEN_ANSWER = "Then write on a line of its own: Answer: {{ answer }}"
_DEMONSTRATIONS = (
    "Here are examples of the domain {{ domain }}.\n"
    "{% for one in demonstrations %}\n<input>{{ one.input }}</input>\n"
    "{% if one.rationale %}<rationale>{{ one.rationale }}</rationale>\n{% endif %}"
    "<answer>{{ one.answer }}</answer>\n{% endfor %}\n"
    "Write one new example of the same domain, different from all of these, in the same three tags: "
)

CLASSIFICATION = TaskTemplates(
    student_system="You classify texts.",
    student_prompt=(
        "{% if labels %}Labels: {{ labels | join(', ') }}\n{% endif %}Text: {{ input }}\n"
        "Which label fits? End with the line: Answer: <label>"
    ),
    rationale_target=_RATIONALE_TARGET,
    label_target=_LABEL_TARGET,
    annotation_system="You explain classifications in one or two short sentences.",
    annotation_prompt=(
        "Labels: {{ labels | join(', ') }}\nText: {{ input }}\nThe correct label is: {{ answer }}\n"
        f"Explain step by step, in at most two sentences, why this label fits. {_THEN_ANSWER}"
    ),
    synthesis_system="You write realistic, varied examples for a text classifier.",
    synthesis_prompt=(
        "Labels: {{ labels | join(', ') }}\n"
        f"{_DEMONSTRATIONS}<input>, <rationale> (at most two sentences) and <answer>."
    ),
)

MULTI_LABEL = TaskTemplates(
    student_system="You classify texts. A text can have several labels.",
    student_prompt=(
        "{% if labels %}Labels: {{ labels | join('; ') }}\n{% endif %}Text: {{ input }}\n"
        "Which labels fit? End with the line: Answer: <label>; <label>; ..."
    ),
    rationale_target=_RATIONALE_TARGET,
    label_target=_LABEL_TARGET,
    annotation_system="You explain classifications in one or two short sentences.",
    annotation_prompt=(
        "Labels: {{ labels | join('; ') }}\nText: {{ input }}\nThe correct labels are: {{ answer }}\n"
        f"Explain step by step, in at most two sentences, why these labels fit and no others. {_THEN_ANSWER}"
    ),
    synthesis_system="You write realistic, varied examples for a text classifier. A text can have several labels.",
    synthesis_prompt=(
        "Labels: {{ labels | join('; ') }}\n"
        f"{_DEMONSTRATIONS}<input>, <rationale> (at most two sentences) and <answer> (labels joined by '; ')."
    ),
)

MULTIPLE_CHOICE = TaskTemplates(
    student_system="You answer multiple-choice questions.",
    student_prompt="{{ input }}\nWhich option is right? End with the line: Answer: <letter>",
    rationale_target=_RATIONALE_TARGET,
    label_target=_LABEL_TARGET,
    annotation_system="You explain answers to multiple-choice questions in a few short sentences.",
    annotation_prompt=(
        "{{ input }}\nThe correct option is: {{ answer }}\n"
        f"Explain step by step, in at most three sentences, why this option is right. {_THEN_ANSWER}"
    ),
    synthesis_system="You write realistic, varied multiple-choice questions.",
    synthesis_prompt=(
        f"{_DEMONSTRATIONS}<input> (the question, then every option on a line of its own: A. ..., B. ...), "
        "<rationale> (at most three sentences) and <answer> (the letter alone)."
    ),
)

MATH = TaskTemplates(
    student_system="You solve mathematical problems.",
    student_prompt="Problem: {{ input }}\nSolve it step by step. End with the line: Answer: <result>",
    rationale_target=_RATIONALE_TARGET,
    label_target=_LABEL_TARGET,
    annotation_system="You solve mathematical problems step by step, briefly.",
    annotation_prompt=(
        "Problem: {{ input }}\nThe correct result is: {{ answer }}\n"
        f"Show step by step, briefly, how it is found. {_THEN_ANSWER}"
    ),
    synthesis_system="You write new, solvable mathematical problems with their solutions.",
    synthesis_prompt=(
        f"{_DEMONSTRATIONS}<input> (the problem), <rationale> (a brief solution, step by step) and "
        "<answer> (the result alone)."
    ),
)

ABSTRACTIVE_QA = TaskTemplates(
    student_system="You answer questions in a few words.",
    student_prompt="{{ input }}\nAnswer in a few words. End with the line: Answer: <answer>",
    rationale_target=_RATIONALE_TARGET,
    label_target=_LABEL_TARGET,
    annotation_system="You explain answers in one or two short sentences.",
    annotation_prompt=(
        "{{ input }}\nThe correct answer is: {{ answer }}\n"
        f"Explain step by step, in at most two sentences, how one gets to it. {_THEN_ANSWER}"
    ),
    synthesis_system="You write realistic, varied questions with their answers.",
    synthesis_prompt=(
        f"{_DEMONSTRATIONS}<input> (with a context where the examples have one), "
        "<rationale> (at most two sentences) and <answer> (a few words)."
    ),
)
