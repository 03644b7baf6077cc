"""Code that the Thrift compiler writes from kit.thrift and from idl/conformance.thrift, importable once this module is."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DIRECTORY = Path(tempfile.mkdtemp(prefix='katamari-py-'))
atexit.register(shutil.rmtree, DIRECTORY, ignore_errors=True)


IDL = HERE.parents[2] / 'idl'


def generate(idl: Path, package: str = '') -> None:
    into = DIRECTORY / 'gen-py' / package
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run([os.environ.get('THRIFT', 'thrift'), '-r', '--gen', 'py', '-out', into, idl], check=True)


generate(HERE / 'kit.thrift')
generate(IDL / 'conformance.thrift')
# Both have the namespace of the kit itself: as they are they would hide it.
generate(IDL / 'katamari.thrift', 'of_calls')
generate(IDL / 'chassis.thrift', 'of_chassis')
generate(IDL / 'content.thrift')
sys.path.insert(0, str(DIRECTORY / 'gen-py'))
#: For processes that tests start.
ENVIRONMENT = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(DIRECTORY / 'gen-py'), str(HERE.parent), *sys.path])}
