"""Katamari for Python: your handlers as one process of a mesh. The generated code of a Thrift service, a class with its methods, and

    katamari.serve(Calculator, Handler(), idl='calculator.thrift', version='1.0.0')

This is the door; the rooms are `chassis` (the process), `server` (its socket), `service` (generated code and handlers), `mesh` (calls to
other services). Nothing here loads generated code by itself.
"""

from .chassis import serve
from .context import Context, context
from .errors import KatamariError
from .mesh import client
from .version import __version__

__all__ = ['Context', 'KatamariError', '__version__', 'client', 'context', 'serve']
