"""Joins a generated service and its handler: lists the methods, decodes arguments, runs the handler and encodes
replies. It uses only the parts of the generated code that every compiler version writes: the argument and result
structs, `Iface`, and the names in `Processor`. It does not use `process`, which replaces every error message by
'Internal error'.

Exceptions that the IDL declares are ordinary replies. For any other exception, the caller gets its message and the
log gets its stack; the process continues.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any, Callable, NamedTuple

from thrift.Thrift import TApplicationException

from .content import ShardNotOpen
from .errors import KatamariError
from .required import Replaced, required_check, text_check
from .wire import EMPTY_STRUCT, FRAME_BYTES_MAX, HEAD_BYTES, reader, strict_reader, struct_bytes


class Answer(NamedTuple):
    body: bytes
    is_exception: bool = False
    #: Code of an exception that the mesh knows.
    error: KatamariError | None = None


class Service:
    def __init__(self, module: Any, handler: object) -> None:
        """@raises TypeError if the module is not a generated service, or a `throws` lacks field ids"""
        if not all(hasattr(module, name) for name in ('Processor', 'Iface', 'Client')):
            raise TypeError(
                f'{module!r} is not a generated service: pass its module, such as `from tutorial import Calculator`'
            )
        #: Name in the IDL. The compiler names the module after the service.
        self.name: str = module.__name__.rpartition('.')[2]
        functions: dict[str, Any] = module.Processor(handler)._processMap
        self._methods = {name: _Method(self.name, name, functions[name], module.Iface, handler) for name in functions}

    def check_handler(self) -> None:
        """@raises TypeError if a method has no handler, or an async one"""
        missing = [name for name, method in self._methods.items() if not callable(method.handler)]
        if missing:
            raise TypeError(
                f'{self.name} has no handler for {", ".join(missing)}; write a method for each method of the IDL'
            )
        coroutines = [name for name, method in self._methods.items() if inspect.iscoroutinefunction(method.handler)]
        if coroutines:
            raise TypeError(
                f'The handlers {", ".join(coroutines)} of {self.name} are async; write plain functions, and set '
                'concurrency=N to run N of them at a time in threads'
            )

    def method(self, name: str) -> _Method:
        found = self._methods.get(name)
        if found is not None:
            return found
        raise KatamariError('no_pool', f'{self.name} has no method "{name}"; it has {", ".join(self._methods)}')


class _Method:
    def __init__(self, service: str, name: str, process: Any, interface: Any, handler: object) -> None:
        # The structs of an inherited method are in the module of the service that declares it.
        generated: dict[str, Any] = process.__globals__
        self._body_bytes_max = FRAME_BYTES_MAX - HEAD_BYTES - len(name)
        self.handler: Callable[..., Any] = getattr(handler, name, None)  # type: ignore[assignment]
        self._label = f'{service}.{name}'
        self._arguments = generated[f'{name}_args']
        #: Names of the arguments in the order of the IDL, which may differ from the order of their ids.
        self._parameters = list(inspect.signature(getattr(interface, name)).parameters)[1:]
        self._check_required = required_check(self._arguments)
        self._check_text = text_check(self._arguments)
        #: None for oneway methods.
        self._result: Any = generated.get(f'{name}_result')
        self._returns = False
        self._declared: list[tuple[type[BaseException], str]] = []
        self._read_result()

    def _read_result(self) -> None:
        if self._result is None:
            return
        if self._result.thrift_spec is None:
            raise TypeError(f'{self._label} throws exceptions without field ids: write `throws (1: ...)` in the IDL')
        for field in self._result.thrift_spec:
            if field is None:
                continue
            if field[0] == 0:
                self._returns = True
            else:
                self._declared.append((field[3][0], field[2]))

    def read(self, frame: bytes, at: int) -> list[Any]:
        """Returns the arguments in the order of the handler's parameters. @raises KatamariError bad_request"""
        arguments = self._arguments()
        try:
            arguments.read(reader(frame, at))
            if not frame[at:].isascii():
                arguments = self._with_strict_text(arguments, frame, at)
            self._check_required(arguments)
        except Exception as error:
            why = f'The arguments of {self._label} do not match its interface: {error}'
            raise KatamariError('bad_request', why) from error
        return [getattr(arguments, name) for name in self._parameters]

    def _with_strict_text(self, arguments: Any, frame: bytes, at: int) -> Any:
        """Returns the arguments. @raises UnicodeDecodeError if a text in them is not UTF-8"""
        try:
            self._check_text(arguments)
            return arguments
        except Replaced:
            again = self._arguments()
            again.read(strict_reader(frame, at))
            return again

    def run(self, arguments: list[Any]) -> Answer:
        """Runs the handler and returns the reply. Raises only SystemExit and KeyboardInterrupt, which end the
        process."""
        try:
            return self._answer(self.handler(*arguments))
        except (SystemExit, KeyboardInterrupt):
            raise
        except _TooLarge as error:
            return self._too_large(error)
        except ShardNotOpen as error:
            return Answer(failure_bytes(error.message, error.type), is_exception=True, error=error)
        except BaseException as error:
            declared = self._declared_answer(error)
            if declared is not None:
                return declared
            if isinstance(error, KatamariError):
                # Such as no_pool of a call to another service: its message says all.
                _log.warning('%s failed: %s: %s', self._label, error.code, error.message)
            else:
                _log.error('%s failed', self._label, exc_info=error)
            message = f'{self._label} failed: {message_of(error)}'
            return Answer(failure_bytes(message, TApplicationException.INTERNAL_ERROR), is_exception=True)

    def _answer(self, returned: Any) -> Answer:
        if self._result is None or not self._returns:
            return _VOID
        if returned is None:
            raise ValueError('it returned None, but the IDL declares a result')
        result = self._result()
        result.success = returned
        return Answer(self._written(result, 'what it returned'))

    def _declared_answer(self, error: BaseException) -> Answer | None:
        for kind, field in self._declared:
            if not isinstance(error, kind):
                continue
            result = self._result()
            setattr(result, field, error)
            try:
                return Answer(self._written(result, f'the {kind.__name__} it raised'))
            except _TooLarge as too_large:
                return self._too_large(too_large)
            except ValueError as misfit:
                why = failure_bytes(f'{self._label} failed: {misfit}', TApplicationException.INTERNAL_ERROR)
                return Answer(why, is_exception=True)
        return None

    def _written(self, result: Any, what: str) -> bytes:
        try:
            body = struct_bytes(result)
        except Exception as error:
            raise ValueError(f'{what} does not match the IDL: {error}') from error
        if len(body) > self._body_bytes_max:
            raise _TooLarge(f'{what} has {len(body)} bytes, limit is {self._body_bytes_max}; return less at once')
        return body

    def _too_large(self, error: _TooLarge) -> Answer:
        why = KatamariError('too_large', f'{self._label} failed: {error}')
        return Answer(failure_bytes(why.message, why.type), is_exception=True, error=why)


class _TooLarge(Exception):
    """A result that no frame can hold."""


def message_of(error: BaseException) -> str:
    """Returns the message of an error, or the name of its type."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        # The exception's own __str__ fails.
        return type(error).__name__


def failure_bytes(message: str, kind: int) -> bytes:
    """Encodes a TApplicationException. Truncates long messages."""
    cut = message if len(message) <= _MESSAGE_CHARS_MAX else message[:_MESSAGE_CHARS_MAX] + '…'
    return struct_bytes(TApplicationException(kind, cut.encode('utf-8', 'replace').decode('utf-8')))


_VOID = Answer(EMPTY_STRUCT)
_MESSAGE_CHARS_MAX = 8192
_log = logging.getLogger('katamari')
