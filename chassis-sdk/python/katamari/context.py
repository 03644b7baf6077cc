"""What a handler knows of the call that it works on. It is found by `katamari.context()`, so that handlers keep the signatures that generated
code gives them; a thread of their own sees it when they hand it over (`contextvars.copy_context()`)."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Mapping

from .wire import CallContext


class Context:
    """One call. Absent parts are '', 0 and empty."""

    def __init__(self, method: str, deadline: float, wire: CallContext) -> None:
        self.method = method
        #: On the clock of `time.monotonic()`.
        self.deadline = deadline
        #: Who calls, for people: `json-rpc 127.0.0.1`, `chassis Shop@1.0.0/2`.
        self.caller: str = wire.caller or 'a client that is not the mesh'
        #: W3C trace context.
        self.traceparent: str = wire.traceparent or ''
        self.tracestate: str = wire.tracestate or ''
        #: Sticky key.
        self.key: str = wire.key or ''
        #: 0 for the first try, more when the mesh sends an idempotent call again.
        self.attempt: int = wire.attempt or 0
        #: What the client said in headers of its transport that mean nothing to the mesh; names in lower case.
        self.headers: Mapping[str, str] = wire.headers or {}
        self.is_retiring = False

    def time_left(self) -> float:
        """Until the caller gives up, in seconds; 0 when it has. A handler that works on for long after that is killed."""
        return max(0.0, self.deadline - time.monotonic())

    def retire_after_reply(self) -> None:
        """Answer this call, then end and be replaced: for code that must not be used again."""
        self.is_retiring = True


def context() -> Context:
    """The call that is being worked on here.

    @raises LookupError outside of a handler
    """
    found = current.get()
    if found is not None:
        return found
    raise LookupError(
        'katamari.context() was asked outside of a call: only handlers have one, and what runs in their contextvars'
    )


current: ContextVar[Context | None] = ContextVar('katamari.context', default=None)
