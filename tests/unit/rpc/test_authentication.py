from __future__ import annotations

import pytest

from baldistill.errors import DependencyUnavailable, Unauthenticated
from baldistill.rpc.authentication import CachingVerifier
from baldistill.rpc.callers import Caller

LAPTOP = Caller(tenant="acme", subject="laptop")


class Source:
    """Answers as it is told, and counts how often it is asked."""

    def __init__(self) -> None:
        self.answer: Caller | Exception = LAPTOP
        self.asked = 0

    def verify(self, token: str) -> Caller:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Scene:
    def __init__(self) -> None:
        self.source = Source()
        self.now_s = 0.0
        self.verifier = CachingVerifier(self.source, monotonic=lambda: self.now_s)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_token_is_asked_for_once_a_minute(scene: Scene) -> None:
    for now_s in (0.0, 30.0, 59.9):
        scene.now_s = now_s
        assert scene.verifier.verify("t") == LAPTOP
    assert scene.source.asked == 1
    scene.now_s = 60.0
    scene.verifier.verify("t")
    assert scene.source.asked == 2


def test_a_revoked_token_is_refused_after_a_minute(scene: Scene) -> None:
    scene.verifier.verify("t")
    scene.source.answer = Unauthenticated("the token is not known")
    assert scene.verifier.verify("t") == LAPTOP
    scene.now_s = 60.0
    with pytest.raises(Unauthenticated):
        scene.verifier.verify("t")


def test_it_fails_closed_when_nobody_can_be_asked(scene: Scene) -> None:
    scene.verifier.verify("t")
    scene.source.answer = DependencyUnavailable(dependency="policy", reason="refused")
    assert scene.verifier.verify("t") == LAPTOP
    scene.now_s = 60.0
    with pytest.raises(DependencyUnavailable):
        scene.verifier.verify("t")


def test_a_refusal_is_never_remembered(scene: Scene) -> None:
    scene.source.answer = Unauthenticated("the token is not known")
    with pytest.raises(Unauthenticated):
        scene.verifier.verify("t")
    scene.source.answer = LAPTOP
    assert scene.verifier.verify("t") == LAPTOP


def test_each_token_is_its_own(scene: Scene) -> None:
    scene.verifier.verify("t")
    scene.source.answer = Unauthenticated("the token is not known")
    with pytest.raises(Unauthenticated):
        scene.verifier.verify("u")
