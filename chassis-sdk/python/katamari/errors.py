"""The error type of the mesh, and the table that maps each code to its number on the wire and its Thrift type."""

from __future__ import annotations

from typing import NamedTuple

from thrift.Thrift import TApplicationException

from .wire import ReplyContext


class _Mapping(NamedTuple):
    #: Number in ReplyContext (idl/katamari.thrift).
    wire: int
    #: Type of TApplicationException.
    thrift: int


_MAPPINGS = {
    'no_pool': _Mapping(1, TApplicationException.UNKNOWN_METHOD),
    'overloaded': _Mapping(2, TApplicationException.INTERNAL_ERROR),
    'timeout': _Mapping(3, TApplicationException.INTERNAL_ERROR),
    'resource_failed': _Mapping(4, TApplicationException.INTERNAL_ERROR),
    'draining': _Mapping(5, TApplicationException.INTERNAL_ERROR),
    'denied': _Mapping(6, TApplicationException.INTERNAL_ERROR),
    'rate_limited': _Mapping(7, TApplicationException.INTERNAL_ERROR),
    'too_large': _Mapping(8, TApplicationException.INTERNAL_ERROR),
    'bad_request': _Mapping(9, TApplicationException.PROTOCOL_ERROR),
    'internal': _Mapping(10, TApplicationException.INTERNAL_ERROR),
    'cancelled': _Mapping(11, TApplicationException.INTERNAL_ERROR),
    'refused_as_poison': _Mapping(12, TApplicationException.INTERNAL_ERROR),
    'incomplete': _Mapping(13, TApplicationException.INTERNAL_ERROR),
}
_CODES = {mapping.wire: code for code, mapping in _MAPPINGS.items()}


class KatamariError(TApplicationException):  # type: ignore[misc]
    """The mesh refused a call or could not finish it. The message says why and what to do."""

    def __init__(
        self, code: str, message: str, *, retry_after_ms: int | None = None, stage: str = '', not_run: bool = False
    ) -> None:
        super().__init__(_MAPPINGS[code].thrift, message)
        #: `no_pool`, `overloaded`, `timeout`, `resource_failed`, `draining`, `too_large`, `bad_request`, ...
        self.code = code
        #: Delay after which a retry may succeed, in ms; None if unknown.
        self.retry_after_ms = retry_after_ms
        #: Where the deadline passed: `queue` or `service`; '' if it did not pass, or the stage is unknown.
        self.stage = stage
        #: True if the call certainly did not run, so that a retry is safe.
        self.not_run = not_run

    def to_wire(self) -> ReplyContext:
        stage = _STAGES.index(self.stage) or None
        return ReplyContext(
            error_code=_MAPPINGS[self.code].wire,
            retry_after_ms=self.retry_after_ms,
            stage=stage,
            not_run=self.not_run or None,
        )

    @classmethod
    def of_wire(cls, context: ReplyContext, message: str) -> KatamariError:
        """Decodes the error of a peer. A code that this version does not know becomes `internal`."""
        stage = context.stage if context.stage in (1, 2) else 0
        return cls(
            _CODES.get(context.error_code or 0, 'internal'),
            message,
            retry_after_ms=context.retry_after_ms,
            stage=_STAGES[stage],
            not_run=bool(context.not_run),
        )


_STAGES = ('', 'queue', 'service')
