"""Katamari for Python runs your handlers as one process of a mesh. It needs the generated code of a Thrift service, a
class with a method for each method of the service, and one call:

    katamari.serve(Calculator, Handler(), idl='calculator.thrift', version='1.0.0')

This module is the public API. `chassis` is the process, `server` its socket, `service` joins generated code and
handlers, `content` holds shards, and `mesh` calls other services. The package itself imports no generated code.
"""

from .chassis import serve
from .content import Content, DamagedShard, OpenedShard
from .context import Context, Identity, context
from .errors import KatamariError
from .mesh import client
from .replies import AbsentShard, Coverage, ReplyInfo
from .version import __version__

__all__ = [
    'AbsentShard',
    'Content',
    'Context',
    'Coverage',
    'DamagedShard',
    'Identity',
    'KatamariError',
    'OpenedShard',
    'ReplyInfo',
    '__version__',
    'client',
    'context',
    'serve',
]
