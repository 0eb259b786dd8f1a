"""Every element of the wire format says what it is, and every RPC of the design is there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

PROTOS = Path(__file__).parents[3] / "protos"

# DESIGN 4, the table of services.
RPCS = {
    "PolicyService": {
        "SubmitRun",
        "GetRun",
        "ListRuns",
        "WatchRun",
        "PauseRun",
        "ResumeRun",
        "CancelRun",
        "PreviewPlan",
        "VerifyToken",
        "CreateTenant",
        "ListTenants",
        "CreateToken",
        "RevokeToken",
        "ListDeadLetters",
        "GetDeadLetter",
        "ReplayDeadLetter",
    },
    "SelectorService": {"ScoreExamples", "ExplainSelection"},
    "TeacherGatewayService": {
        "Complete",
        "CreateBudget",
        "UpdateBudget",
        "GetBudget",
        "ListBudgets",
        "ListBudgetEvents",
        "ListSpend",
        "GetBudgetGate",
        "SetBudgetGate",
        "ReconcileBudgets",
    },
    "TrainerService": {"GetStudent", "ListStudents", "EvaluateStudent", "Generate", "PromoteStudent"},
}
STREAMED = {"WatchRun"}

# Field numbers of the descriptors' own format, which paths to comments are made of.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS, NESTED = 2, 3
VALUES, METHODS = 2, 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    image = tmp_path_factory.mktemp("protos") / "image.binpb"
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            "--include_source_info",
            f"--descriptor_set_out={image}",
            *sorted(str(path) for path in PROTOS.rglob("*.proto")),
        ]
    )
    assert status == 0
    return list(FileDescriptorSet.FromString(image.read_bytes()).file)


def message_elements(
    message: DescriptorProto, path: tuple[int, ...], name: str
) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, name
    for number, field in enumerate(message.field):
        yield (*path, FIELDS, number), f"{name}.{field.name}"
    for number, nested in enumerate(message.nested_type):
        yield from message_elements(nested, (*path, NESTED, number), f"{name}.{nested.name}")


def elements(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield (path, name) of everything that has to have a comment."""
    for number, message in enumerate(file.message_type):
        yield from message_elements(message, (MESSAGES, number), message.name)
    for number, enum in enumerate(file.enum_type):
        yield (ENUMS, number), enum.name
        for position, value in enumerate(enum.value):
            yield (ENUMS, number, VALUES, position), f"{enum.name}.{value.name}"
    for number, service in enumerate(file.service):
        yield (SERVICES, number), service.name
        for position, method in enumerate(service.method):
            yield (SERVICES, number, METHODS, position), f"{service.name}.{method.name}"


def test_every_message_field_value_and_rpc_has_a_comment(files: list[FileDescriptorProto]) -> None:
    silent = []
    for file in files:
        commented = {tuple(one.path) for one in file.source_code_info.location if one.leading_comments.strip()}
        silent += [f"{file.name}: {name}" for path, name in elements(file) if path not in commented]
    assert silent == []


def test_every_rpc_of_the_design_is_there_and_no_other(files: list[FileDescriptorProto]) -> None:
    found = {service.name: {rpc.name for rpc in service.method} for file in files for service in file.service}
    assert found == RPCS
    streams = {rpc.name for file in files for one in file.service for rpc in one.method if rpc.server_streaming}
    assert streams == STREAMED


def test_a_file_has_at_most_one_service(files: list[FileDescriptorProto]) -> None:
    assert all(len(file.service) <= 1 for file in files)


def test_the_zero_of_every_enum_is_unspecified(files: list[FileDescriptorProto]) -> None:
    zeros = [enum.value[0].name for file in files for enum in file.enum_type]
    assert zeros
    assert all(name.endswith("_UNSPECIFIED") for name in zeros)
