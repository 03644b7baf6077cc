"""The service of idl/content_conformance.thrift, whose shards and handlers do as they are told: what `katamari conform` asks of a kit for
content servers. Generated code is expected on PYTHONPATH. CONFORMANCE_CONCURRENCY: what it says of itself."""

import os
import time
from pathlib import Path

import katamari
from content_conformance import ContentConformance


def open_shard(path, name):
    file = open(path, encoding='utf-8')
    try:
        told = dict(line.rstrip('\n').split(' ', 1) for line in file)
        time.sleep(int(told.get('slow', 0)) / 1000)
        if 'damaged' in told:
            raise katamari.DamagedShard(told['damaged'])
        if 'refused' in told:
            raise RuntimeError(told['refused'])
        return katamari.OpenedShard(file, entries=int(told.get('entries', 0)), more={'format': 'lines'})
    except BaseException:
        file.close()
        raise


content = katamari.Content(open=open_shard, close=lambda file, name: file.close())


class Handler:
    def hold(self, shards, ms):
        with content.use(shards) as opened:
            time.sleep(ms / 1000)
            # A file that was closed meanwhile raises an error.
            return sorted(name for name, file in opened.items() if file.fileno() >= 0)


katamari.serve(
    ContentConformance,
    Handler(),
    idl=Path(__file__).parents[3] / 'idl' / 'content_conformance.thrift',
    version='1.0.0',
    concurrency=int(os.environ.get('CONFORMANCE_CONCURRENCY', '1')),
    content=content,
)
