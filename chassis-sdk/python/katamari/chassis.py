"""Runs your handlers as a chassis, one process of the mesh. It listens at KATAMARI_LISTEN, serves its own service and
the control service (describe, ping, drain), for a content server also `katamari.Content`, and exits when its resource
manager does. Without KATAMARI_LISTEN, it is a plain framed Thrift server on 127.0.0.1:9095.

Threads: each connection has a thread that reads it and answers the control service at once, even while handlers run.
With concurrency 1, handlers run one after the other in the thread that called `serve`, normally the main thread,
which many libraries require. With concurrency N, they run in N worker threads. Shards are opened and closed in threads
of their own.
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
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Iterable, Mapping

from .content import Content
from .content_control import CONTENT, ContentControl
from .context import Context, current
from .errors import KatamariError
from .idl import read_idl
from .server import Call, Server
from .service import Answer, Service
from .version import __version__
from .wire import EMPTY_STRUCT, NESTING_MAX, ChassisDetails, Described, struct_bytes

CONTROL = 'katamari.Chassis'
LISTEN_BY_HAND = 'tcp:127.0.0.1:9095'
EX_CONFIG = 78


def serve(
    service: ModuleType,
    handler: object,
    *,
    idl: str | os.PathLike[str],
    version: str,
    includes: Iterable[str | os.PathLike[str]] = (),
    concurrency: int = 1,
    tags: Iterable[str] = (),
    roles: Iterable[str] = (),
    more: Mapping[str, str] | None = None,
    content: Content[Any] | None = None,
) -> None:
    """Serves calls until the chassis has drained, then returns. The mesh, SIGTERM, Ctrl-C, or a handler that calls
    `retire_after_reply` starts the drain.

    @param service the generated module of the service: `from tutorial import Calculator`
    @param handler an object with a method for each method of the service, with the arguments of the generated code
    @param idl the IDL file; its includes are read too. A relative path is looked up from the working directory, then
        from the directory of the program
    @param includes folders for files that the IDL file includes and that are not beside the including file
    @param version SemVer, such as `1.2.0`. Copies with the same version must have the same interface
    @param concurrency number of calls that this process handles at a time; above 1, in that many threads
    @param tags calls can prefer pools with these tags
    @param roles only calls that ask for exactly these roles reach this chassis
    @param more other details that calls can ask for
    @param content makes the chassis a content server: the mesh has it open shards of indices
    @raises TypeError, ValueError, OSError if the arguments do not match each other or the address is not available
    """
    try:
        if concurrency < 1:
            raise ValueError(f'concurrency is {concurrency}; it must be at least 1')
        # A level of a message takes up to three calls of this package, or of code that reads what it returns.
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + 4 * NESTING_MAX))
        served = Service(service, handler)
        served.check_handler()
        text = read_idl(idl, served.name, includes)
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
            holds_shards=None if content is None else True,
        )
    except (FileNotFoundError, TypeError, ValueError) as error:
        if os.environ.get('KATAMARI_LIFELINE') != 'stdin':
            raise
        # One line, and a status for which the mesh starts no other copy until a file has changed.
        print(f'This chassis cannot start with {Path(idl).absolute()}: {error}', file=sys.stderr)
        sys.exit(EX_CONFIG)
    resource = os.environ.get('KATAMARI_RESOURCE') or f'{served.name}@{version}'
    _set_up_output(resource)
    if os.environ.get('KATAMARI_LIFELINE') == 'stdin':
        _exit_with_manager()
    chassis = Chassis(served, details, content)
    # Install the signal handlers before listening, so that every process that takes calls can be drained.
    with _Signals(chassis):
        address = chassis.listen(os.environ.get('KATAMARI_LISTEN') or LISTEN_BY_HAND)
        if 'KATAMARI_LISTEN' not in os.environ:
            print(f'{resource} listens on {address} (framed Thrift)')
        chassis.run()


class Chassis:
    def __init__(self, service: Service, details: ChassisDetails, content: Content[Any] | None = None) -> None:
        self._service = service
        self._content = None if content is None else ContentControl(content, self._fail)
        self._concurrency = details.concurrency
        self._id = f'{details.service_name}@{details.version}'
        self._described = Answer(struct_bytes(Described(success=details)))
        self._waiting: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        #: Reasons to drain; the first one counts. A SimpleQueue, because a signal handler may put into it.
        self._endings: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._fatal: BaseException | None = None
        self._server: Server | None = None

    def listen(self, address: str) -> str:
        """Starts to listen and returns the address. Calls are queued until `run`. @raises ValueError, OSError"""
        self._server = Server(address, self._accept)
        return self._server.address

    def run(self) -> None:
        """Runs handlers until the chassis has drained. @raises SystemExit if a handler exits the process"""
        threading.Thread(target=self._drain_on_request, name='katamari-drain', daemon=True).start()
        if self._concurrency == 1:
            self._work()
        else:
            for number in range(self._concurrency):
                threading.Thread(target=self._work_in_thread, name=f'katamari-{number}', daemon=True).start()
        self._ended.wait()
        if self._fatal is not None:
            raise self._fatal

    def end(self, why: str) -> None:
        """Starts a drain: the calls in flight finish, then `run` returns."""
        self._endings.put(why)

    def _drain_on_request(self) -> None:
        why = self._endings.get()
        _log.debug('Draining: %s', why)
        if self._server is not None:
            self._server.drain()
        for _ in range(self._concurrency):
            self._waiting.put(None)
        self._ended.set()

    def _accept(self, call: Call) -> None:
        if call.service == CONTROL:
            self._control(call)
        elif call.service in ('', self._service.name):
            self._waiting.put(call)
        elif call.service == CONTENT and self._content is not None:
            try:
                self._content.take(call)
            except KatamariError as refusal:
                call.refuse(refusal)
        else:
            call.refuse(KatamariError('no_pool', f'This is {self._id}; it does not offer {call.service}'))

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
            # An error that would end the main thread ends the process from a worker thread too.
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Makes `run` raise the error of another thread."""
        self._fatal = error
        self._waiting.put(None)
        self._ended.set()

    def _serve(self, call: Call) -> None:
        """Runs the handler and replies. @raises KatamariError if the call cannot be passed to its handler"""
        method = self._service.method(call.method)
        if time.monotonic() >= call.deadline:
            why = f'The deadline of {call.method} passed before this copy started it'
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
    """A context in which the first SIGTERM or Ctrl-C starts a drain. A second one has its previous effect. Does
    nothing outside the main thread, the only one that may set signal handlers."""

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


def _set_up_output(resource: str) -> None:
    """Flushes each line of stdout and stderr at once, because the mesh reads both by line. Logs go to stderr unless
    logging is already configured."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(line_buffering=True)
    name = resource.replace('%', '%%')
    logging.basicConfig(level=logging.INFO, format=f'%(asctime)s %(levelname)s {name} %(name)s: %(message)s')


def _exit_with_manager() -> None:
    """Exits when standard input closes, so that the chassis does not outlive its resource manager."""
    # Handlers and their child processes get an empty standard input, so that they neither read the pipe nor hold it.
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(lifeline, 4096):
                pass
        # sys.exit would not interrupt a handler in the main thread, and its reply is no longer needed.
        os._exit(0)

    threading.Thread(target=watch, name='katamari-lifeline', daemon=True).start()


def _texts(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise ValueError(f'{name} is the string "{values}", expected a list of strings: [{values!r}]')
    return list(values)


_log = logging.getLogger('katamari')
