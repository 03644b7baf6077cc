import { describe, expect, test } from 'vitest';
import { isSecretName, redactChange } from '../../../services/audit/redact.ts';
import { sourceOf } from '../../../core/rpc/mod.ts';

describe('redactChange()', () => {
  test('masks values whose name looks secret, and says which of them changed', () => {
    const before = { env: { DB_PASSWORD: 'old', API_KEY: 'same', MODEL: 'small' }, count: 1 };
    const after = { env: { DB_PASSWORD: 'new', API_KEY: 'same', MODEL: 'large', authToken: 'x' }, count: 2 };
    expect(redactChange(before, after)).toEqual({
      before: { env: { DB_PASSWORD: '***', API_KEY: '***', MODEL: 'small' }, count: 1 },
      after: { env: { DB_PASSWORD: '*** (changed)', API_KEY: '***', MODEL: 'large', authToken: '***' }, count: 2 },
    });
    expect(redactChange(undefined, undefined)).toEqual({ before: undefined, after: undefined });
  });

  test('masks secrets in commands, URLs and keys', () => {
    const command = ['run', '--token', 'abc', '--password=abc', 'DB_PASS=abc', '--api-key', '--model', 'small', 'a=b'];
    const key = '-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----';
    const text = JSON.stringify(
      redactChange(undefined, { command, more: { url: 'postgres://joe:abc@db/x?y=1', key, pem: `x ${key} y` } }).after,
    );
    expect(text).not.toMatch(/abc/);
    expect(text).toContain('"--token","***","--password=***","DB_PASS=***","--api-key","--model","small","a=b"');
    expect(text).toContain('postgres://joe:***@db/x?y=1');
  });

  test('keeps names that users choose', () => {
    const odd = JSON.parse('{"__proto__": "a", "constructor": "b", "toString": {"hasOwnProperty": 1}}') as object;
    expect(JSON.stringify(redactChange(odd, odd).after)).toBe(JSON.stringify(odd));
  });

  test('is quick on hostile text', () => {
    const texts = ['a://'.repeat(50_000), `a://${'b:'.repeat(100_000)}`, '-----BEGIN PRIVATE KEY-----'.repeat(10_000)];
    const startedAt = performance.now();
    redactChange(undefined, { texts });
    // Not a measurement: a quadratic pattern would take minutes.
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });
});

test('isSecretName() knows the usual names', () => {
  for (const name of [
    'PASSWORD',
    'PGPASSWORD',
    'db_pass',
    'DbPwd',
    'SECRET',
    'client-secret',
    'AWS_SECRET_ACCESS_KEY',
    'apiKey',
    'APIKEY',
    'GITHUB_TOKEN',
    'authtoken',
    'CREDENTIALS',
    'private_key',
    'SSH_KEY',
    'BASIC_AUTH',
    'SESSION_COOKIE',
    'SENTRY_DSN',
    '--api-key',
    'passphrase',
    'x-authorization',
  ])
    expect([name, isSecretName(name)]).toEqual([name, true]);
  for (const name of [
    'MODEL',
    'PATH',
    'KEYBOARD',
    'MONKEY',
    'PORT',
    'AUTHOR',
    'compass',
    'OPINION',
    'service',
    'version',
  ])
    expect([name, isSecretName(name)]).toEqual([name, false]);
});

test('sourceOf() is the address without port, and the network of IPv6', () => {
  for (const [caller, source] of [
    ['json-rpc 10.0.0.7', '10.0.0.7'],
    ['thrift 10.0.0.7:50312', '10.0.0.7'],
    ['thrift [::1]:50312', '0:0:0:0::/64'],
    ['json-rpc ::1', '0:0:0:0::/64'],
    ['thrift [2001:DB8:1:2:3:4:5:6]:1', '2001:db8:1:2::/64'],
    ['json-rpc 2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['thrift [::ffff:10.0.0.7]:1', '10.0.0.7'],
    ['json-rpc ::ffff:10.0.0.7', '10.0.0.7'],
    ['a chassis', 'a chassis'],
    ['', ''],
  ])
    expect([caller, sourceOf(caller as string)]).toEqual([caller, source]);
});
