"""Differ, a minimal chassis. Its interface is in differ.thrift; `thrift -r --gen py review.thrift` generates the
module that it imports."""

import difflib

import katamari
from differ import Differ
from differ.ttypes import NothingLikeIt


class Handler:
    def likeness(self, left, right):
        return difflib.SequenceMatcher(a=left, b=right).ratio()

    def closest(self, word, among):
        found = difflib.get_close_matches(word, among, n=1)
        if not found:
            raise NothingLikeIt(word=word, among=len(among))
        return found[0]

    def changes(self, before, after):
        lines = difflib.unified_diff(
            before.content.splitlines(), after.content.splitlines(), before.name, after.name, lineterm=''
        )
        return '\n'.join(lines)


katamari.serve(Differ, Handler(), idl='differ.thrift', version='1.0.0', tags=['sample'])
