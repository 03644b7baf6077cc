# A Thrift server in Python that uses only Apache Thrift. It serves one connection at a time.

import collections
import os
import sys

sys.path.append('gen-py')  # from: thrift --gen py words.thrift

from thrift.protocol import TCompactProtocol
from thrift.server import TServer
from thrift.transport import TSocket, TTransport

from words import Words
from words.ttypes import NoWords


class Handler:
    def tally(self, text):
        words = text.lower().split()
        if not words:
            raise NoWords('the text is empty')
        return collections.Counter(words)

    def pid(self):
        return os.getpid()

    def ready(self):
        pass


TServer.TSimpleServer(
    Words.Processor(Handler()),
    TSocket.TServerSocket('127.0.0.1', int(sys.argv[1])),
    TTransport.TBufferedTransportFactory(),
    TCompactProtocol.TCompactProtocolFactory(),
).serve()
