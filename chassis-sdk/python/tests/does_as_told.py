"""The service of idl/conformance.thrift, whose handlers do as they are told: what `katamari conform` asks of a kit. Generated code is expected
on PYTHONPATH. CONFORMANCE_VERSION and CONFORMANCE_CONCURRENCY: what it says of itself; RELAY_VERSION: which version `relay` calls."""

import os
import time
from pathlib import Path

import katamari
from conformance import Conformance
from conformance.ttypes import ContextReport, Declared


class Handler:
    def __init__(self):
        self.lines = []
        self.next = katamari.client(Conformance, version=os.environ.get('RELAY_VERSION', ''))

    def echo(self, value):
        return value

    def echoBinary(self, value):
        return value

    def echoText(self, value):
        return value

    def demand(self, value):
        return value.text

    def nothing(self):
        pass

    def refuse(self, why, number):
        raise Declared(why=why, number=number)

    def collapse(self, why):
        raise RuntimeError(why)

    def work(self, ms):
        time.sleep(ms / 1000)
        return ms

    def note(self, line):
        self.lines.append(line)

    def noted(self):
        return self.lines

    def report(self):
        call = katamari.context()
        return ContextReport(
            timeLeftMs=int(call.time_left() * 1000),
            caller=call.caller,
            traceparent=call.traceparent,
            tracestate=call.tracestate,
            key=call.key,
            attempt=call.attempt,
            headers=dict(call.headers),
        )

    def relay(self, value):
        index = os.environ.get('RELAY_TO_INDEX')
        if index is None:
            return self.next.echoText(value)
        infos = []
        other = katamari.client(Conformance, service=index, min_coverage=0.75, on_reply=infos.append)
        words = [other.echoText(value)]
        for version, coverage in infos:
            words.append(version)
            if coverage:
                words.append(f'{coverage.complete}/{coverage.shards}')
                words.extend(f'{shard}:{lack}' for shard, lack in coverage.missing)
        return ' '.join(words)

    def retire(self):
        katamari.context().retire_after_reply()


katamari.serve(
    Conformance,
    Handler(),
    idl=Path(__file__).parents[3] / 'idl' / 'conformance.thrift',
    version=os.environ.get('CONFORMANCE_VERSION', '1.0.0'),
    concurrency=int(os.environ.get('CONFORMANCE_CONCURRENCY', '1')),
    tags=['python'],
)
