// Addresses: which texts are valid, how they are written, and where a listener is reached.

import { describe, expect, test } from 'vitest';
import { dialAddress, formatAddress, isUnspecified, parseAddress, portOf, urlOf } from '../../core/mod.ts';

describe('parseAddress() reads', () => {
  test.each([
    ['127.0.0.1:9090', '127.0.0.1', 9090],
    ['0.0.0.0:0', '0.0.0.0', 0],
    ['localhost:80', 'localhost', 80],
    ['mesh_1.example.org:65535', 'mesh_1.example.org', 65_535],
    ['[::1]:9090', '::1', 9090],
    ['[::]:0', '::', 0],
    ['[fe80::1%eth0]:9090', 'fe80::1%eth0', 9090],
    ['::1:9090', '::1', 9090],
    ['2001:db8:0:0:0:0:0:1:9090', '2001:db8:0:0:0:0:0:1', 9090],
    ['[::ffff:127.0.0.1]:1', '::ffff:127.0.0.1', 1],
  ])('%s', (text, host, port) => {
    expect(parseAddress(text)).toEqual({ host, port });
  });
});

describe('parseAddress() refuses', () => {
  test.each([
    '',
    ':',
    ':9090',
    'localhost',
    'localhost:',
    '[::1]',
    '[::1]:',
    '[]:9090',
    '[localhost]:9090',
    '[127.0.0.1]:9090',
    '[::1:9090',
    '::1]:9090',
    'a:b:9090',
    '1:2:3:9090',
    'localhost:65536',
    'localhost:99999',
    'localhost:123456',
    'localhost:-1',
    'localhost:+1',
    'localhost:1e3',
    'localhost: 80',
    'localhost:80 ',
    'local host:80',
    'http://localhost:80',
    'user@localhost:80',
    'localhost/path:80',
    'unix:/run/mesh.sock',
  ])('%j', (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });
});

test.each(['127.0.0.1:9090', 'localhost:0', '[::1]:9090', '[fe80::1%eth0]:65535'])(
  'formatAddress() writes %s as parseAddress() reads it',
  (text) => {
    const address = parseAddress(text);
    expect(address === undefined ? '' : formatAddress(address)).toBe(text);
  },
);

test('urlOf() brackets an IPv6 host', () => {
  expect(urlOf({ host: '::1', port: 9080 })).toBe('http://[::1]:9080');
  expect(urlOf({ host: 'localhost', port: 9080 })).toBe('http://localhost:9080');
});

test('dialAddress() replaces unspecified addresses by loopback and leaves others unchanged', () => {
  const dialed = (host: string): string => dialAddress({ host, port: 1 }).host;
  expect(['0.0.0.0', '::', '10.0.0.1', 'localhost'].map(dialed)).toEqual(['127.0.0.1', '::1', '10.0.0.1', 'localhost']);
  expect(['0.0.0.0', '::', '::1', 'localhost'].map(isUnspecified)).toEqual([true, true, false, false]);
});

test.each([
  ['127.0.0.1:9090', 9090],
  ['[::1]:9090', 9090],
  ['http://127.0.0.1:9080', 9080],
  ['https://[::1]:9080/', 9080],
  ['unix:/run/a:5/mesh.sock', undefined],
  ['localhost', undefined],
  ['[::1]', undefined],
  ['127.0.0.1:70000', undefined],
])('portOf() finds the port in %s', (text, port) => {
  expect(portOf(text)).toBe(port);
});
