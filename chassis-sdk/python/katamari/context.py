"""The context of the call that a handler works on. `katamari.context()` returns it, so handlers keep the signatures
of the generated code. A thread that a handler starts sees it if it runs in `contextvars.copy_context()`."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Mapping, NamedTuple

from .wire import CallContext


class Identity(NamedTuple):
    """Who makes a call, as proved to the mesh."""

    name: str
    roles: tuple[str, ...]
    #: anonymous, mtls, token, jwt, chassis or mesh.
    how: str


class Context:
    """Facts about one call. Absent ones are '', 0 or empty."""

    def __init__(self, method: str, deadline: float, wire: CallContext) -> None:
        self.method = method
        #: On the clock of `time.monotonic()`.
        self.deadline = deadline
        #: Caller, for logs: `json-rpc 127.0.0.1`, `chassis Shop@1.0.0/2`.
        self.caller: str = wire.caller or 'a client that is not the mesh'
        #: Caller as proved to the mesh.
        self.identity = Identity(
            wire.identity_name or 'anonymous', tuple(wire.identity_roles or ()), wire.identity_how or 'anonymous'
        )
        #: W3C trace context.
        self.traceparent: str = wire.traceparent or ''
        self.tracestate: str = wire.tracestate or ''
        #: Sticky key.
        self.key: str = wire.key or ''
        #: 0 for the first try, more if the mesh retries an idempotent call.
        self.attempt: int = wire.attempt or 0
        #: Transport headers of the client that the mesh does not use. Bytes that are not UTF-8 are escaped as by
        #: `surrogateescape`. Names of HTTP headers are in lower case.
        self.headers: Mapping[str, str] = {
            name.decode('utf-8', 'surrogateescape'): value.decode('utf-8', 'surrogateescape')
            for name, value in (wire.headers or {}).items()
        }
        self.is_retiring = False

    def time_left(self) -> float:
        """Returns the seconds until the deadline of the call; 0 after it. A handler that overruns it by a second is
        killed."""
        return max(0.0, self.deadline - time.monotonic())

    def retire_after_reply(self) -> None:
        """Makes the process exit after the reply to this call; the mesh replaces it. For code that must not be
        reused."""
        self.is_retiring = True


def context() -> Context:
    """Returns the context of the call that this thread works on.

    @raises LookupError outside of a handler
    """
    found = current.get()
    if found is not None:
        return found
    raise LookupError(
        'katamari.context() was called outside of a call: use it in a handler, or in a copy of its contextvars'
    )


current: ContextVar[Context | None] = ContextVar('katamari.context', default=None)
