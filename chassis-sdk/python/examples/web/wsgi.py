"""Adapts a WSGI application (PEP 3333: Flask, Django, a function) to the handler of a web chassis. It handles one
request at a time, like any chassis. What the application writes to wsgi.errors goes to the log of the chassis."""

import io
import sys
from urllib.parse import unquote_to_bytes

from katamari_web.ttypes import Header, Response


class WsgiHandler:
    def __init__(self, application):
        self._application = application

    def handle_request(self, request):
        started = []

        def start_response(status, headers, exc_info=None):
            # A second call reports a later error and replaces status and headers.
            if started and exc_info is None:
                raise AssertionError('start_response was called twice')
            started[:] = [int(status.split()[0]), headers]
            return parts.append

        parts = []
        answer = self._application(environ_of(request), start_response)
        try:
            parts.extend(answer)
        finally:
            if hasattr(answer, 'close'):
                answer.close()
        status, headers = started
        return Response(status, [Header(name, text_of(value)) for name, value in headers], b''.join(parts))


def native(text):
    """Returns a text as WSGI has it: one character per byte of its UTF-8."""
    return text.encode('utf-8').decode('latin-1')


def text_of(native):
    """Returns the text of a native string; one that is not UTF-8 is Latin-1."""
    try:
        return native.encode('latin-1').decode('utf-8')
    except UnicodeDecodeError:
        return native


def environ_of(request):
    path = unquote_to_bytes(request.path).decode('latin-1')
    host, _, port = request.host.rpartition(':')
    if not port.isdigit():
        host, port = request.host, ''
    environ = {
        'REQUEST_METHOD': request.method,
        'SCRIPT_NAME': request.prefix,
        'PATH_INFO': path[len(request.prefix) :],
        'QUERY_STRING': request.query,
        'REMOTE_ADDR': request.remote_address,
        'SERVER_NAME': host,
        'SERVER_PORT': port or ('443' if request.scheme == 'https' else '80'),
        'SERVER_PROTOCOL': 'HTTP/1.1',
        'CONTENT_LENGTH': str(len(request.body)),
        'wsgi.version': (1, 0),
        'wsgi.url_scheme': request.scheme,
        'wsgi.input': io.BytesIO(request.body),
        'wsgi.errors': sys.stderr,
        'wsgi.multithread': False,
        'wsgi.multiprocess': True,
        'wsgi.run_once': False,
    }
    for header in request.headers:
        name = header.name.upper().replace('-', '_')
        if name == 'CONTENT_TYPE':
            environ[name] = native(header.value)
        elif name != 'CONTENT_LENGTH':
            joint = '; ' if name == 'COOKIE' else ','
            before = environ.get(f'HTTP_{name}')
            value = native(header.value)
            environ[f'HTTP_{name}'] = value if before is None else before + joint + value
    return environ
