"""Services that are away for a while: killed, or standing still and coming back as if nothing had been."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from tests.stack.stack_home import StackHome


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Processes that leave together. stands_still: SIGSTOP, as a machine that hangs; else SIGKILL and a new process."""

    services: tuple[str, ...]
    stands_still: bool = False

    def begin(self, stack: StackHome) -> None:
        """Have them gone; returns when they are."""
        for name in self.services:
            if self.stands_still:
                stack.stack.services[name].send(signal.SIGSTOP)
            else:
                stack.kill_service(name)

    def end(self, stack: StackHome) -> None:
        """Have them back; returns when each serves."""
        for name in self.services:
            stack.stack.services[name].send(signal.SIGCONT)
        stack.start_services(self.services)
