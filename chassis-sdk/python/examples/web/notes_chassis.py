"""Notes as a chassis: a WSGI application with nothing but Python's own library. Its interface is in notes.thrift; `thrift -r --gen py notes.thrift` writes
the modules that are imported here. In place of `application` stands a Flask or Django application as it is."""

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
    start_response('200 OK', [('Content-Type', 'application/json; charset=utf-8')])
    return [json.dumps(found).encode()]


katamari.serve(Notes, WsgiHandler(application), idl='notes.thrift', version='1.0.0', tags=['sample'])
