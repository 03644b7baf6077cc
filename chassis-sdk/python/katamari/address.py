"""Listens on and connects to addresses in the mesh's notation: `unix:PATH` or `tcp:HOST:PORT`."""

from __future__ import annotations

import re
import socket

_TCP = re.compile(r'tcp:(.*):(\d{1,5})')


def listen(address: str) -> tuple[socket.socket, str]:
    """Returns a listening socket and its address, with the actual port for port 0. @raises ValueError, OSError"""
    listener, where = _socket_for(address)
    try:
        if listener.family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f'Cannot listen at {address}: {error.strerror}') from error
    if listener.family == socket.AF_UNIX:
        return listener, address
    host, port = listener.getsockname()[:2]
    return listener, f'tcp:[{host}]:{port}' if ':' in host else f'tcp:{host}:{port}'


def connect(address: str, timeout: float) -> socket.socket:
    """Returns a connected socket. @raises ValueError, OSError"""
    connection, where = _socket_for(address)
    try:
        connection.settimeout(timeout)
        connection.connect(where)
    except OSError:
        connection.close()
        raise
    disable_nagle(connection)
    return connection


def disable_nagle(connection: socket.socket) -> None:
    """Sets TCP_NODELAY: each write is a complete message, so waiting for more data only adds latency."""
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _socket_for(address: str) -> tuple[socket.socket, str | tuple[str, int]]:
    if address.startswith('unix:'):
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), address[5:]
    found = _TCP.fullmatch(address)
    if found is None or int(found[2]) > 65_535:
        raise ValueError(f'"{address}" is not an address; expected unix:PATH or tcp:HOST:PORT')
    host, port = found[1].strip('[]'), int(found[2])
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM), (host, port)
