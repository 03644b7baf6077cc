"""Reads the text of an interface, a .thrift file and its includes, which `describe` sends to the mesh. Includes are
found as the Apache compiler finds them: beside the including file, then in the include folders; then beside the main
file. Only `include` and `service` are parsed here; the mesh parses the rest. It finds the files of the n-th include
folder by their names, `-In/PATH` (core/idl/source.ts)."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Iterable, NamedTuple


class IdlText(NamedTuple):
    #: Name of the main file.
    main: str
    #: Text of every file, by its path relative to the folder of the main file, or `-In/PATH` in an include folder.
    files: dict[str, str]


def read_idl(
    path: str | os.PathLike[str], service: str, includes: Iterable[str | os.PathLike[str]] = ()
) -> IdlText:
    """Reads the file and its includes. @raises FileNotFoundError for a missing file or folder, ValueError for a
    missing service"""
    found = _find(Path(path))
    files: dict[str, str] = {}
    main = found.name
    folders = {f'-I{n}/': _find_folder(Path(folder)) for n, folder in enumerate(includes, 1)}
    _read({'': found.parent, **folders}, main, files)
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


def _find_folder(path: Path) -> Path:
    program = Path(getattr(sys.modules.get('__main__'), '__file__', None) or '.')
    for candidate in (path, program.parent / path):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f'The include folder "{path}" is neither in {Path.cwd()} nor beside {program}')


def _read(folders: dict[str, Path], name: str, files: dict[str, str]) -> None:
    """@param folders the folder of the main file under '', and the include folders by the prefixes of their files"""
    if len(files) >= _FILES_MAX:
        raise ValueError(f'The IDL has more than {_FILES_MAX} files, which is the limit')
    files[name] = text = _path(folders, name).read_text(encoding='utf-8')
    root, rest = _split(name)
    for word, wanted in _statements(text):
        if word != 'include':
            continue
        beside = root + posixpath.normpath(posixpath.join(posixpath.dirname(rest), wanted))
        plain = posixpath.normpath(wanted)
        candidates = dict.fromkeys((beside, *(prefix + plain for prefix in folders if prefix), plain))
        included = next((one for one in candidates if one in files or _path(folders, one).is_file()), None)
        if included is None:
            looked = ' and '.join(f'"{_path(folders, one)}"' for one in candidates)
            raise FileNotFoundError(
                f'{_path(folders, name)} includes "{wanted}", which was not found; looked for {looked}'
            )
        if included not in files:
            _read(folders, included, files)


def _split(name: str) -> tuple[str, str]:
    """Returns the prefix of the include folder, '' for none, and the path in there."""
    found = _ROOT.match(name)
    root = found.group() if found else ''
    return root, name[len(root) :]


def _path(folders: dict[str, Path], name: str) -> Path:
    root, rest = _split(name)
    return folders[root] / rest if root in folders else folders[''] / name


def _statements(text: str) -> list[tuple[str, str]]:
    """Returns each word `include` and `service` outside of comments and strings, with the token after it."""
    tokens = [token for token in _TOKEN.findall(text) if not token.startswith(('/', '#'))]
    return [
        (word, following.strip('"\''))
        for word, following in zip(tokens, tokens[1:])
        if (word == 'include' and following[0] in '"\'') or (word == 'service' and following[0] not in '"\'')
    ]


_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|#[^\n]*|"[^"]*"|\'[^\']*\'|[\w.]+', re.DOTALL)
_ROOT = re.compile(r'-I\d{1,3}/')
_FILES_MAX = 100
