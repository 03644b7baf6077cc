"""Review, a chassis that calls another service, reads the call context and logs. It handles four calls at a time,
because its handlers mostly wait."""

import logging

import katamari
from differ import Differ
from review import Review
from review.ttypes import NothingChanged, Verdict

log = logging.getLogger('review')


class Handler:
    def __init__(self):
        # One client for all calls and threads. Its timeout is the remaining time of the current call, at most two
        # seconds.
        self.differ = katamari.client(Differ, timeout=2)

    def review(self, before, after):
        changes = self.differ.changes(before, after)
        if changes == '':
            raise NothingChanged(name=after.name)
        body = changes.splitlines()[2:]
        added = sum(line.startswith('+') for line in body)
        removed = sum(line.startswith('-') for line in body)
        words = 'looks harmless' if added + removed < 10 else 'needs a closer look'
        return Verdict(changes=changes, added=added, removed=removed, words=words)

    def remark(self, words):
        log.info('%s says: %s', katamari.context().caller, words)


katamari.serve(Review, Handler(), idl='review.thrift', version='1.0.0', concurrency=4, tags=['sample'])
