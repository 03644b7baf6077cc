"""Reads the text of an interface, a .thrift file and its includes, which `describe` sends to the mesh. Includes are
found as the Apache compiler finds them: beside the including file, then beside the main file. Only `include` and
`service` are parsed here; the mesh parses the rest."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import NamedTuple


class IdlText(NamedTuple):
    #: Name of the main file.
    main: str
    #: Text of every file, by its path relative to the folder of the main file.
    files: dict[str, str]


def read_idl(path: str | os.PathLike[str], service: str) -> IdlText:
    """Reads the file and its includes. @raises FileNotFoundError for a missing file, ValueError for a missing
    service"""
    found = _find(Path(path))
    files: dict[str, str] = {}
    main = found.name
    _read(found.parent, main, files)
    services = [name for word, name in _statements(files[main]) if word == 'service']
    if service not in services:
        raise ValueError(f'{found} has no service "{service}"; it has {", ".join(services) or "none"}')
    return IdlText(main, files)


def _find(path: Path) -> Path:
    """Looks a relative path up from the working directory, then from the directory of the program."""
    program = Path(getattr(sys.modules.get('__main__'), '__file__', None) or '.')
    for candidate in (path, program.parent / path):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f'Cannot read the IDL file "{path}": it is neither in {Path.cwd()} nor beside {program}')


def _read(folder: Path, name: str, files: dict[str, str]) -> None:
    if len(files) >= _FILES_MAX:
        raise ValueError(f'The IDL has more than {_FILES_MAX} files, which is the limit')
    files[name] = text = (folder / name).read_text(encoding='utf-8')
    for word, wanted in _statements(text):
        if word != 'include':
            continue
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(name), wanted))
        candidates = dict.fromkeys((beside, posixpath.normpath(wanted)))
        included = next((one for one in candidates if one in files or (folder / one).is_file()), None)
        if included is None:
            looked = ' and '.join(f'"{folder / one}"' for one in candidates)
            raise FileNotFoundError(f'{folder / name} includes "{wanted}", which was not found; looked for {looked}')
        if included not in files:
            _read(folder, included, files)


def _statements(text: str) -> list[tuple[str, str]]:
    """Returns each word `include` and `service` outside of comments and strings, with the token after it."""
    tokens = [token for token in _TOKEN.findall(text) if not token.startswith(('/', '#'))]
    return [
        (word, following.strip('"\''))
        for word, following in zip(tokens, tokens[1:])
        if (word == 'include' and following[0] in '"\'') or (word == 'service' and following[0] not in '"\'')
    ]


_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|#[^\n]*|"[^"]*"|\'[^\']*\'|[\w.]+', re.DOTALL)
_FILES_MAX = 100
