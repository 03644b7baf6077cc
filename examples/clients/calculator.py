#!/usr/bin/env python3
"""Calls the Calculator with generated code and the official Python library of Thrift, without Katamari code.

    thrift -r --gen py ../calculator.thrift
    python3 calculator.py [PORT]

Needs the Thrift compiler and its Python library (Debian: thrift-compiler, python3-thrift).
"""

import sys

sys.path.insert(0, "gen-py")

from thrift.protocol import TBinaryProtocol, TMultiplexedProtocol
from thrift.protocol.THeaderProtocol import THeaderProtocol
from thrift.Thrift import TApplicationException
from thrift.transport import TSocket, TTransport
from thrift.transport.THeaderTransport import THeaderClientType

from tutorial import Calculator
from tutorial.ttypes import InvalidOperation, Operation, Work

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 9090


def connect():
    socket = TSocket.TSocket("127.0.0.1", PORT)
    # Timeout to connect, and of each read. The mesh has its own timeout, 10 s by default.
    socket.setTimeout(12_000)
    return socket


def plain():
    transport = TTransport.TFramedTransport(connect())
    client = Calculator.Client(TBinaryProtocol.TBinaryProtocol(transport))
    transport.open()
    try:
        print("2 + 40 =", client.add(2, 40))
        try:
            client.calculate(1, Work(1, 0, Operation.DIVIDE))
        except InvalidOperation as refused:  # declared in the IDL
            print("1 / 0:", refused.why)
        try:
            client.add(2**31 - 1, 1)
        except TApplicationException as error:  # an error of the mesh, or an undeclared error of the handler
            print(f"error {error.type}: {error.message}")
    finally:
        transport.close()


def named():
    """Select the service and its version with the multiplexed protocol."""
    transport = TTransport.TFramedTransport(connect())
    protocol = TBinaryProtocol.TBinaryProtocol(transport)
    client = Calculator.Client(TMultiplexedProtocol.TMultiplexedProtocol(protocol, "Calculator@^1"))
    transport.open()
    print("15 - 10 =", client.calculate(1, Work(15, 10, Operation.SUBTRACT)))
    transport.close()


def with_headers():
    """The same with THeader, and a timeout of the call."""
    protocol = THeaderProtocol(connect(), [THeaderClientType.HEADERS])
    protocol.trans.open()
    protocol.set_header(b"katamari-service", b"Calculator")
    protocol.set_header(b"katamari-timeout-ms", b"2000")
    print("6 * 7 =", Calculator.Client(protocol).calculate(2, Work(6, 7, Operation.MULTIPLY)))
    protocol.trans.close()


plain()
named()
with_headers()
