"""Notes, a chassis with a WSGI application that needs only Python's standard library. Its interface is in
notes.thrift; `thrift -r --gen py notes.thrift` generates the modules that it imports. A Flask or Django application
can replace `application` without changes."""

import json

import katamari
from notes import Notes
from wsgi import WsgiHandler

notes = []


def application(environ, start_response):
    if environ['REQUEST_METHOD'] == 'POST':
        size = int(environ['CONTENT_LENGTH'])
        notes.append(environ['wsgi.input'].read(size).decode())
    found = {'notes': notes, 'path': environ['PATH_INFO'], 'root': environ['SCRIPT_NAME'], 'query': environ['QUERY_STRING']}
    headers = [('Content-Type', 'application/json; charset=utf-8')]
    if 'HTTP_X_NAME' in environ:
        headers.append(('X-Name', environ['HTTP_X_NAME']))
    start_response('200 OK', headers)
    return [json.dumps(found).encode()]


katamari.serve(Notes, WsgiHandler(application), idl='notes.thrift', version='1.0.0', tags=['sample'])
