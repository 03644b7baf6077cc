"""A chassis: your handlers as one process of the mesh. Listens at KATAMARI_LISTEN, answers its own service and the control service (describe,
ping, drain), ends when its resource manager does. Run by hand it is a plain framed Thrift server on 127.0.0.1:9095.

Threads: one reads each connection and answers the control service at once, whatever handlers do. With concurrency 1 handlers run in the thread
that called `serve`, one after the other: in the main thread, which many libraries want. With more, each runs in one of so many threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import queue
import signal
import sys
import threading
import time
from types import FrameType, ModuleType
from typing import Any, Iterable, Mapping

from .context import Context, current
from .errors import KatamariError
from .idl import read_idl
from .server import Call, Server
from .service import Answer, Service
from .version import __version__
from .wire import EMPTY_STRUCT, ChassisDetails, Described, struct_bytes

CONTROL = 'katamari.Chassis'
LISTEN_BY_HAND = 'tcp:127.0.0.1:9095'


def serve(
    service: ModuleType,
    handler: object,
    *,
    idl: str | os.PathLike[str],
    version: str,
    concurrency: int = 1,
    tags: Iterable[str] = (),
    roles: Iterable[str] = (),
    more: Mapping[str, str] | None = None,
) -> None:
    """Serves calls until the chassis is drained (by the mesh, SIGTERM, Ctrl-C, or a call that retires it), then returns.

    @param service the generated module of the service: `from tutorial import Calculator`
    @param handler has a method for each one of the service, with the arguments that generated code gives it
    @param idl the IDL file; what it includes is read too. A relative path counts from the working directory, or else from the program
    @param version SemVer, such as `1.2.0`. Copies with equal version must have equal interfaces
    @param concurrency calls that this process works on at once, each in a thread of its own
    @param tags calls can prefer pools that have them
    @param roles a wall: only calls that ask for exactly these roles get here
    @param more any other details that calls can ask for
    @raises TypeError, ValueError, OSError when these do not fit together, or it cannot listen
    """
    if concurrency < 1:
        raise ValueError(f'concurrency is {concurrency}, it must be 1 or more')
    served = Service(service, handler)
    served.check_handler()
    text = read_idl(idl, served.name)
    details = ChassisDetails(
        service_name=served.name,
        version=version,
        roles=_texts('roles', roles),
        tags=_texts('tags', tags),
        more=dict(more or {}),
        idl_main=text.main,
        idl_files=text.files,
        concurrency=concurrency,
        sdk=f'python {__version__} on {platform.python_implementation()} {platform.python_version()}',
    )
    resource = os.environ.get('KATAMARI_RESOURCE') or f'{served.name}@{version}'
    _look_after_output(resource)
    if os.environ.get('KATAMARI_LIFELINE') == 'stdin':
        _end_with_manager()
    chassis = Chassis(served, details)
    # Before it listens: who can be called can be told to stop.
    with _Signals(chassis):
        address = chassis.listen(os.environ.get('KATAMARI_LISTEN') or LISTEN_BY_HAND)
        if 'KATAMARI_LISTEN' not in os.environ:
            print(f'{resource} listens on {address} (framed Thrift)')
        chassis.run()


class Chassis:
    def __init__(self, service: Service, details: ChassisDetails) -> None:
        self._service = service
        self._concurrency = details.concurrency
        self._id = f'{details.service_name}@{details.version}'
        self._described = Answer(struct_bytes(Described(success=details)))
        self._waiting: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        #: Reasons to end; the first counts. May be put to in a signal handler.
        self._endings: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._fatal: BaseException | None = None
        self._server: Server | None = None

    def listen(self, address: str) -> str:
        """From now on calls are taken; they wait for `run`. Returns where it listens. @raises ValueError, OSError"""
        self._server = Server(address, self._take)
        return self._server.address

    def run(self) -> None:
        """Works until it is drained. @raises SystemExit when a handler wants the process to end"""
        threading.Thread(target=self._drain_when_told, name='katamari-drain', daemon=True).start()
        if self._concurrency == 1:
            self._work()
        else:
            for number in range(self._concurrency):
                threading.Thread(target=self._work_in_thread, name=f'katamari-{number}', daemon=True).start()
        self._ended.wait()
        if self._fatal is not None:
            raise self._fatal

    def end(self, why: str) -> None:
        """Finishes what is under way, then lets `run` return."""
        self._endings.put(why)

    def _drain_when_told(self) -> None:
        why = self._endings.get()
        _log.debug('Draining: %s', why)
        if self._server is not None:
            self._server.drain()
        for _ in range(self._concurrency):
            self._waiting.put(None)
        self._ended.set()

    def _take(self, call: Call) -> None:
        if call.service == CONTROL:
            self._control(call)
        elif call.service in ('', self._service.name):
            self._waiting.put(call)
        else:
            call.refuse(KatamariError('no_pool', f'This is {self._id}, it does not offer {call.service}'))

    def _control(self, call: Call) -> None:
        if call.method == 'describe':
            call.answer(self._described)
        elif call.method in ('ping', 'drain'):
            call.answer(Answer(EMPTY_STRUCT))
            if call.method == 'drain':
                self.end('drained')
        else:
            call.refuse(
                KatamariError('no_pool', f'{CONTROL} has no method "{call.method}"; it has describe, ping, drain')
            )

    def _work(self) -> None:
        while True:
            call = self._waiting.get()
            if call is None:
                return
            try:
                self._serve(call)
            except KatamariError as refusal:
                call.refuse(refusal)

    def _work_in_thread(self) -> None:
        try:
            self._work()
        except BaseException as error:
            # What would end the process in the main thread ends it here too.
            self._fatal = error
            self._ended.set()

    def _serve(self, call: Call) -> None:
        """@raises KatamariError when the call does not get as far as its handler"""
        method = self._service.method(call.method)
        if time.monotonic() >= call.deadline:
            why = f'The time of {call.method} was over before this copy came to it'
            raise KatamariError('timeout', why, stage='queue', not_run=True)
        arguments = method.read(call.frame, call.start)
        context = Context(call.method, call.deadline, call.context)
        token = current.set(context)
        try:
            answer = method.run(arguments)
        finally:
            current.reset(token)
        call.answer(answer, retire=context.is_retiring)
        if context.is_retiring:
            self.end('a handler asked for it')


class _Signals:
    """SIGTERM and Ctrl-C drain while this is entered; a second one does what it would without. Signals are the main thread's business."""

    def __init__(self, chassis: Chassis) -> None:
        self._chassis = chassis
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._drain) for number in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _drain(self, number: int, _: FrameType | None) -> None:
        signal.signal(number, self._before[number])
        self._chassis.end(signal.Signals(number).name)


def _look_after_output(resource: str) -> None:
    """The mesh takes both streams line by line, so lines must leave when they are written. Logs go to stderr unless they were set up already."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(line_buffering=True)
    name = resource.replace('%', '%%')
    logging.basicConfig(level=logging.INFO, format=f'%(asctime)s %(levelname)s {name} %(name)s: %(message)s')


def _end_with_manager() -> None:
    """No chassis outlives its resource manager: its end closes our standard input."""
    # Out of the way of handlers, and of the processes that they start, which would hold it or read from it.
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(lifeline, 4096):
                pass
        # Not sys.exit: the main thread may be deep in a handler, and nobody waits for the answer.
        os._exit(0)

    threading.Thread(target=watch, name='katamari-lifeline', daemon=True).start()


def _texts(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise ValueError(f'{name} is the text "{values}", expected a list of texts: [{values!r}]')
    return list(values)


_log = logging.getLogger('katamari')
