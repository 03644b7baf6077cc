// S3 servers for the exam of the S3 source: s3rver from npm in every run, and OpenStack Swift with its s3api middleware
// from Debian when KATAMARI_SWIFT is set. Both check signatures.

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { userInfo } from 'node:os';
import path from 'node:path';
import S3rver from '@20minutes/s3rver';
import { LoggedProcess } from '../tools/logged-process.ts';
import { toolPath } from '../tools/tools.ts';
import { until } from '../tools/wait.ts';

export interface S3Server {
  readonly endpoint: string;
  readonly close: () => Promise<void>;
}

export interface S3ServerKind {
  readonly name: string;
  /** Its one user. */
  readonly keys: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** What is said of an access key that it does not know. */
  readonly unknownKey: string;
  /** @param folder for its files */
  readonly start: (folder: string) => Promise<S3Server>;
}

const s3rver: S3ServerKind = {
  name: 's3rver',
  keys: { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' },
  unknownKey: 'does not know the access key',
  start: async (folder) => {
    const directory = path.join(folder, 'buckets');
    const server = new S3rver({ port: 0, address: '127.0.0.1', silent: true, directory });
    const { port } = await server.run();
    return { endpoint: `http://127.0.0.1:${port}`, close: () => server.close() };
  },
};

const swift: S3ServerKind = {
  name: 'Swift',
  keys: { accessKeyId: 'test:tester', secretAccessKey: 'testing-secret' },
  // The users are another middleware, so the one that checks signatures cannot tell.
  unknownKey: 'does not fit its access key (SignatureDoesNotMatch)',
  start: startSwift,
};

export const S3_SERVERS: readonly S3ServerKind[] =
  process.env['KATAMARI_SWIFT'] === undefined ? [s3rver] : [s3rver, swift];

/** One replica on one device, on loopback, with the users of tempauth. */
async function startSwift(folder: string): Promise<S3Server> {
  mkdirSync(path.join(folder, 'devices', 'd1'), { recursive: true });
  writeFileSync(
    path.join(folder, 'swift.conf'),
    '[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n[storage-policy:0]\nname = one\ndefault = yes\n',
  );
  const processes: LoggedProcess[] = [];
  const { username } = userInfo();
  const env = { PATH: process.env['PATH'], HOME: folder, LANG: 'C.UTF-8' };
  const startServer = (name: string, port: number, text: string): void => {
    const common = `bind_ip = 127.0.0.1\nbind_port = ${port}\nworkers = 0\nuser = ${username}\nswift_dir = ${folder}\n`;
    const file = path.join(folder, `${name}.conf`);
    writeFileSync(file, `[DEFAULT]\n${common}${text}`);
    const log = path.join(folder, `${name}.log`);
    processes.push(new LoggedProcess([toolPath(`swift-${name}-server`), file, '-v'], { cwd: folder, env, log }));
  };
  const close = async (): Promise<void> => {
    await Promise.all(processes.map((one) => one.kill()));
  };
  try {
    const [proxyPort = 0, cachePort = 0, ...ports] = await freePorts(2 + STORES.length);
    for (const [at, name] of STORES.entries()) {
      const port = ports[at] as number;
      const builder = path.join(folder, `${name}.builder`);
      for (const args of [['create', '2', '1', '1'], ['add', `r1z1-127.0.0.1:${port}/d1`, '1'], ['rebalance']]) {
        execFileSync(toolPath('swift-ring-builder'), [builder, ...args], { env, stdio: 'pipe' });
      }
      const devices = `devices = ${path.join(folder, 'devices')}\nmount_check = false\ndisable_fallocate = true\n`;
      const app = `${name}-server`;
      const pipeline = `[pipeline:main]\npipeline = healthcheck ${app}\n${HEALTH}[app:${app}]\nuse = egg:swift#${name}\n`;
      startServer(name, port, `${devices}${pipeline}`);
    }
    const cache = [toolPath('memcached'), '-l', '127.0.0.1', '-p', `${cachePort}`, '-u', username];
    processes.push(new LoggedProcess(cache, { cwd: folder, env, log: path.join(folder, 'memcached.log') }));
    startServer(
      'proxy',
      proxyPort,
      `${PROXY}[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:${cachePort}\n`,
    );
    const endpoint = `http://127.0.0.1:${proxyPort}`;
    for (const port of [...ports, proxyPort]) {
      const url = `http://127.0.0.1:${port}/healthcheck`;
      await until(
        () => `${url} to answer: ${processes.map((one) => one.lastLines()).join('\n')}`,
        async () => (await fetch(url).catch(() => undefined))?.ok === true,
      );
    }
    return { endpoint, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Ports that were free a moment ago. */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ports.push((server.address() as AddressInfo).port);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

const STORES = ['account', 'container', 'object'];
const HEALTH = '[filter:healthcheck]\nuse = egg:swift#healthcheck\n';
const PROXY = `[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache s3api tempauth proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
${HEALTH}[filter:s3api]
use = egg:swift#s3api
location = us-east-1
allow_multipart_uploads = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing-secret .admin
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
`;
