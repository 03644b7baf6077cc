#!/usr/bin/env python3
"""Searches the index `docs`, as search.ts does, with the official Python library of Thrift and without Katamari code.

    thrift -r --gen py ../../idl/search.thrift
    python3 search.py QUERY [PORT]

Needs the Thrift compiler and its Python library (Debian: thrift-compiler, python3-thrift).
"""

import sys

sys.path.insert(0, "gen-py")

from katamari_search import TextContent
from katamari_search.ttypes import BadQuery
from thrift.protocol import TBinaryProtocol, TMultiplexedProtocol
from thrift.transport import TSocket, TTransport

PAGES = 2
QUERY = sys.argv[1] if len(sys.argv) > 1 else "manager dies"
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 9090


def search(client):
    print(client.count(shards=None, query=QUERY, filter="", minCoverage=1.0), "sections match")
    after = ""
    for page in range(1, PAGES + 1):
        found = client.search(
            shards=None,  # all of them
            query=QUERY,
            count=3,
            sort=None,  # by score
            filter="",
            fields=["path", "line", "heading"],
            after=after,
            statistics=None,  # the mesh adds them up
            minCoverage=1.0,
        )
        print("page", page)
        for hit in found.hits:
            path, line, heading = (hit.fields[name][0] for name in ("path", "line", "heading"))
            print(f"  {hit.score:.3f}  {path.text}:{line.whole}  {heading.text}")
        if not found.cursor:
            break
        after = found.cursor


socket = TSocket.TSocket("127.0.0.1", PORT)
socket.setTimeout(12_000)
transport = TTransport.TFramedTransport(socket)
protocol = TBinaryProtocol.TBinaryProtocol(transport)
client = TextContent.Client(TMultiplexedProtocol.TMultiplexedProtocol(protocol, "docs"))
transport.open()
try:
    search(client)
except BadQuery as refused:
    print("Bad query:", refused.why)
    sys.exit(1)
finally:
    transport.close()
