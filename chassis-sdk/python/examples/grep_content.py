"""Grep, a content server: the mesh says which shards to open. Its interface is in grep.thrift; `thrift --gen py
grep.thrift` generates the module that it imports."""

import re
from pathlib import Path

import katamari
from grep import Grep
from grep.ttypes import BadPattern


def read(path, name):
    files = sorted(file for file in Path(path).rglob('*') if file.is_file()) if Path(path).is_dir() else [Path(path)]
    try:
        lines = [line for file in files for line in file.read_text(encoding='utf-8').splitlines()]
    except UnicodeDecodeError as error:
        raise katamari.DamagedShard(f'{name} is not text: {error}') from error
    return katamari.OpenedShard(lines, entries=len(lines), more={'files': str(len(files))})


content = katamari.Content(open=read)


class Handler:
    def grep(self, shards, pattern):
        try:
            found = re.compile(pattern).search
        except re.error as error:
            raise BadPattern(why=str(error)) from error
        with content.use(shards) as opened:
            lines = [(name, n, line) for name, shard in opened.items() for n, line in enumerate(shard, 1)]
            return [f'{name}:{n}: {line}' for name, n, line in lines if found(line)]


katamari.serve(Grep, Handler(), idl='grep.thrift', version='1.0.0', content=content, tags=['sample'])
