from __future__ import annotations

from baldistill.rpc.retrying import idempotent_methods


def test_questions_and_idempotent_commands_are_repeated_while_a_server_is_away() -> None:
    repeated = idempotent_methods()
    assert {
        ("baldistill.v1.PolicyService", "GetRun"),
        ("baldistill.v1.PolicyService", "SubmitRun"),
        ("baldistill.v1.PolicyService", "VerifyToken"),
        ("baldistill.v1.SelectorService", "ExplainSelection"),
        ("baldistill.v1.TrainerService", "PromoteStudent"),
    } <= set(repeated)


def test_what_buys_or_adds_is_never_repeated() -> None:
    repeated = {method for _, method in idempotent_methods()}
    assert not repeated & {"Complete", "ResumeRun", "CreateBudget", "UpdateBudget", "WatchRun"}
