"""The one error of the mesh, and the table that gives each code its number on the wire and its face in Thrift."""

from __future__ import annotations

from typing import NamedTuple

from thrift.Thrift import TApplicationException

from .wire import ReplyContext


class _Face(NamedTuple):
    #: Number in ReplyContext (idl/katamari.thrift).
    wire: int
    #: Type of TApplicationException.
    thrift: int


_FACES = {
    'no_pool': _Face(1, TApplicationException.UNKNOWN_METHOD),
    'overloaded': _Face(2, TApplicationException.INTERNAL_ERROR),
    'timeout': _Face(3, TApplicationException.INTERNAL_ERROR),
    'resource_failed': _Face(4, TApplicationException.INTERNAL_ERROR),
    'draining': _Face(5, TApplicationException.INTERNAL_ERROR),
    'denied': _Face(6, TApplicationException.INTERNAL_ERROR),
    'rate_limited': _Face(7, TApplicationException.INTERNAL_ERROR),
    'too_large': _Face(8, TApplicationException.INTERNAL_ERROR),
    'bad_request': _Face(9, TApplicationException.PROTOCOL_ERROR),
    'internal': _Face(10, TApplicationException.INTERNAL_ERROR),
    'cancelled': _Face(11, TApplicationException.INTERNAL_ERROR),
}
_CODES = {face.wire: code for code, face in _FACES.items()}


class KatamariError(TApplicationException):  # type: ignore[misc]
    """What the mesh itself has to say against a call. `str(error)` says what to do next."""

    def __init__(
        self, code: str, message: str, *, retry_after_ms: int | None = None, stage: str = '', not_run: bool = False
    ) -> None:
        super().__init__(_FACES[code].thrift, message)
        #: `no_pool`, `overloaded`, `timeout`, `resource_failed`, `draining`, `too_large`, `bad_request`, ...
        self.code = code
        #: When another try may succeed, in ms from then; None when nobody said.
        self.retry_after_ms = retry_after_ms
        #: Where the deadline passed: `queue` or `service`; '' when it did not, or nobody said.
        self.stage = stage
        #: True when the call certainly never ran, so that sending it again is safe.
        self.not_run = not_run

    def to_wire(self) -> ReplyContext:
        stage = _STAGES.index(self.stage) or None
        return ReplyContext(
            error_code=_FACES[self.code].wire,
            retry_after_ms=self.retry_after_ms,
            stage=stage,
            not_run=self.not_run or None,
        )

    @classmethod
    def of_wire(cls, context: ReplyContext, message: str) -> KatamariError:
        """What a peer of the mesh says. A code of a newer one reads as `internal`."""
        stage = context.stage if context.stage in (1, 2) else 0
        return cls(
            _CODES.get(context.error_code or 0, 'internal'),
            message,
            retry_after_ms=context.retry_after_ms,
            stage=_STAGES[stage],
            not_run=bool(context.not_run),
        )


_STAGES = ('', 'queue', 'service')
