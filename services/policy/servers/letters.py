"""RPCs about dead letters."""

from __future__ import annotations

from baldistill.artifacts.ports import ArtifactStore
from baldistill.errors import NotKnown
from baldistill.rpc.callers import current_caller, require_admin, require_tenant
from baldistill.rpc.pages import last_id_of, page_size, page_token, wrong_token
from baldistill.runtime.handlers import PublishFacts
from baldistill.specs.frozen import load_frozen_run
from baldistill.v1 import policy_pb2
from services.policy.letters import DeadLetterBox, KeptLetter
from services.policy.replaying import replay_letter
from services.policy.run_commands import RunCommands
from services.policy.servers.messages import letter_message, run_message


class LetterMethods:
    """The part of the servicer that is about dead letters. Thread-safe. Those of no run are for admins."""

    def __init__(
        self, *, letters: DeadLetterBox, commands: RunCommands, publish: PublishFacts, store: ArtifactStore
    ) -> None:
        self._letters = letters
        self._commands = commands
        self._publish = publish
        self._store = store

    def ListDeadLetters(
        self, request: policy_pb2.ListDeadLettersRequest, _call: object
    ) -> policy_pb2.ListDeadLettersResponse:
        if request.tenant:
            require_tenant(request.tenant)
        else:
            require_admin()
        size, after = page_size(request.page_size), None
        if request.page_token:
            after = self._letters.find(last_id_of(request.page_token))
            if after is None:
                raise wrong_token()
        found = self._letters.page(
            tenant=request.tenant or None,
            run_id=request.run_id,
            with_replayed=request.include_replayed,
            # One more than asked for tells whether there is another page.
            size=size + 1,
            after=after,
        )
        return policy_pb2.ListDeadLettersResponse(
            letters=[letter_message(letter, whole=False) for letter in found[:size]],
            next_page_token=page_token(found[size - 1].letter_id) if len(found) > size else "",
        )

    def GetDeadLetter(
        self, request: policy_pb2.GetDeadLetterRequest, _call: object
    ) -> policy_pb2.GetDeadLetterResponse:
        return policy_pb2.GetDeadLetterResponse(letter=letter_message(self._own_letter(request.letter_id), whole=True))

    def ReplayDeadLetter(
        self, request: policy_pb2.ReplayDeadLetterRequest, _call: object
    ) -> policy_pb2.ReplayDeadLetterResponse:
        letter, record = replay_letter(
            self._own_letter(request.letter_id),
            by=current_caller().subject,
            letters=self._letters,
            commands=self._commands,
            publish=self._publish,
        )
        stages = load_frozen_run(self._store, record.spec).spec.stages
        return policy_pb2.ReplayDeadLetterResponse(
            letter=letter_message(letter, whole=False), run=run_message(record, stages=stages)
        )

    def _own_letter(self, letter_id: str) -> KeptLetter:
        """Return a letter that the caller may see. Raises NotKnown alike for what is not there and what is not theirs."""
        caller = current_caller()
        letter = self._letters.find(letter_id)
        if letter is None or not (caller.is_admin or caller.tenant == letter.tenant):
            raise NotKnown(kind="dead letter", name=letter_id, remedy="see `baldistill dlq list`")
        return letter
