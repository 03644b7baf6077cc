// Finds the credentials for S3 in the places where AWS's own tools look, in this order: environment, shared profile,
// web identity, container, instance metadata (IMDSv2). They are kept in memory until they expire, and never shown.

import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { SourceError } from '../shard-source.ts';
import { refusalOf, request } from './http-request.ts';
import { textOf } from './xml-text.ts';

export interface AwsKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

interface ExpiringKeys extends AwsKeys {
  /** Unix time in ms; infinite for keys that do not expire. */
  readonly untilMs: number;
}

export type AwsEnv = Readonly<Record<string, string | undefined>>;

export class AwsCredentials {
  readonly #env: AwsEnv;
  #keys: ExpiringKeys | undefined;

  constructor(env: AwsEnv) {
    this.#env = env;
  }

  /** @throws SourceError that lists the places when no credentials are found */
  async get(): Promise<AwsKeys> {
    if (this.#keys === undefined || this.#keys.untilMs - Date.now() < RENEW_BEFORE_MS) this.#keys = await this.#find();
    return this.#keys;
  }

  async #find(): Promise<ExpiringKeys> {
    const env = this.#env;
    const found =
      fromEnvironment(env) ??
      fromProfile(env) ??
      (await fromWebIdentity(env)) ??
      (await fromContainer(env)) ??
      (await fromInstance(env));
    if (found !== undefined) return found;
    throw new SourceError(
      'no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the manager, a profile in ~/.aws/credentials, AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, or run where a container or an instance has a role',
    );
  }
}

/** Region of the environment or of the profile. */
export function awsRegion(env: AwsEnv): string {
  return env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || profileOf(env).get('region') || 'us-east-1';
}

function fromEnvironment(env: AwsEnv): ExpiringKeys | undefined {
  return keysOf(env['AWS_ACCESS_KEY_ID'], env['AWS_SECRET_ACCESS_KEY'], env['AWS_SESSION_TOKEN']);
}

function fromProfile(env: AwsEnv): ExpiringKeys | undefined {
  const profile = profileOf(env);
  const found = keysOf(
    profile.get('aws_access_key_id'),
    profile.get('aws_secret_access_key'),
    profile.get('aws_session_token'),
  );
  if (found !== undefined) return found;
  const other = ['role_arn', 'credential_process', 'sso_session', 'sso_start_url'].find((key) => profile.has(key));
  if (other === undefined && !env['AWS_PROFILE']) return undefined;
  throw new SourceError(
    `the AWS profile ${profileName(env)} has no aws_access_key_id and aws_secret_access_key${other === undefined ? '' : `; ${other} is not supported`}`,
  );
}

function keysOf(accessKeyId = '', secretAccessKey = '', sessionToken = ''): ExpiringKeys | undefined {
  if (accessKeyId === '' || secretAccessKey === '') return undefined;
  return { accessKeyId, secretAccessKey, sessionToken: sessionToken || undefined, untilMs: Number.POSITIVE_INFINITY };
}

function profileName(env: AwsEnv): string {
  return env['AWS_PROFILE'] || 'default';
}

/** The keys of the profile in both shared files; the credentials file wins. */
function profileOf(env: AwsEnv): ReadonlyMap<string, string> {
  const folder = path.join(env['HOME'] || os.homedir(), '.aws');
  const name = profileName(env);
  return new Map([
    ...sectionOf(
      env['AWS_CONFIG_FILE'] || path.join(folder, 'config'),
      name === 'default' ? [name] : [`profile ${name}`],
    ),
    ...sectionOf(env['AWS_SHARED_CREDENTIALS_FILE'] || path.join(folder, 'credentials'), [name]),
  ]);
}

/** Pairs of a section in an INI file; none when the file cannot be read. */
function sectionOf(file: string, names: readonly string[]): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  let isIn = false;
  for (const line of textIn(file).split('\n')) {
    const section = /^\[\s*([^\]]+?)\s*\]/.exec(line)?.[1];
    if (section !== undefined) isIn = names.includes(section.replace(/\s+/g, ' '));
    const [, key, value] = /^([A-Za-z0-9_]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (isIn && key !== undefined && value !== undefined) found.set(key.toLowerCase(), value);
  }
  return found;
}

function textIn(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** A role for a token that the platform writes to a file, as in Kubernetes. */
async function fromWebIdentity(env: AwsEnv): Promise<ExpiringKeys | undefined> {
  const [file = '', role = ''] = [env['AWS_WEB_IDENTITY_TOKEN_FILE'], env['AWS_ROLE_ARN']];
  if (file === '' || role === '') return undefined;
  const token = textIn(file).trim();
  if (token === '')
    throw new SourceError(`AWS_WEB_IDENTITY_TOKEN_FILE names ${file}, which cannot be read or is empty`);
  const url = env['AWS_ENDPOINT_URL_STS'] || `https://sts.${awsRegion(env)}.amazonaws.com/`;
  const body = new URLSearchParams({
    Action: 'AssumeRoleWithWebIdentity',
    Version: '2011-06-15',
    RoleArn: role,
    RoleSessionName: env['AWS_ROLE_SESSION_NAME'] || 'katamari',
    WebIdentityToken: token,
  }).toString();
  const answer = await request(url, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body,
  });
  if (answer.status !== 200) throw refusalOf(answer, `200 with the credentials of ${role}`);
  const xml = await answer.text(ANSWER_BYTES_MAX);
  return expiring(
    {
      AccessKeyId: textOf(xml, 'AccessKeyId'),
      SecretAccessKey: textOf(xml, 'SecretAccessKey'),
      Token: textOf(xml, 'SessionToken'),
      Expiration: textOf(xml, 'Expiration'),
    },
    url,
  );
}

/** The role of a container: ECS and EKS. */
async function fromContainer(env: AwsEnv): Promise<ExpiringKeys | undefined> {
  const relative = env['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'] ?? '';
  const url = relative === '' ? (env['AWS_CONTAINER_CREDENTIALS_FULL_URI'] ?? '') : `http://169.254.170.2${relative}`;
  if (url === '') return undefined;
  const { protocol, hostname } = URL.canParse(url) ? new URL(url) : { protocol: '', hostname: '' };
  if (protocol !== 'https:' && !CONTAINER_HOSTS.test(hostname))
    throw new SourceError('AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https: nor an address of this machine');
  const file = env['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE'] ?? '';
  const token = file === '' ? (env['AWS_CONTAINER_AUTHORIZATION_TOKEN'] ?? '') : textIn(file).trim();
  const answer = await request(url, { headers: token === '' ? {} : { authorization: token } });
  if (answer.status !== 200) throw refusalOf(answer, '200 with the credentials of this container');
  return expiring(parseJson(await answer.text(ANSWER_BYTES_MAX)), url);
}

/** The role of an EC2 instance. Undefined where there is no metadata service, or no role. */
async function fromInstance(env: AwsEnv): Promise<ExpiringKeys | undefined> {
  if (env['AWS_EC2_METADATA_DISABLED']?.toLowerCase() === 'true') return undefined;
  const base = (env['AWS_EC2_METADATA_SERVICE_ENDPOINT'] || 'http://169.254.169.254').replace(/\/$/, '');
  const session = await request(`${base}/latest/api/token`, {
    method: 'PUT',
    headers: { 'x-aws-ec2-metadata-token-ttl-seconds': '300' },
    timeoutMs: METADATA_TIMEOUT_MS,
  }).catch(() => undefined);
  if (session === undefined) return undefined;
  if (session.status !== 200) {
    session.close();
    return undefined;
  }
  const headers = { 'x-aws-ec2-metadata-token': await session.text(ANSWER_BYTES_MAX) };
  const roles = `${base}/latest/meta-data/iam/security-credentials/`;
  const list = await request(roles, { headers });
  if (list.status !== 200) {
    list.close();
    return undefined;
  }
  const [role = ''] = (await list.text(ANSWER_BYTES_MAX)).split('\n');
  const answer = await request(`${roles}${encodeURIComponent(role.trim())}`, { headers });
  if (answer.status !== 200) throw refusalOf(answer, '200 with the credentials of this instance');
  return expiring(parseJson(await answer.text(ANSWER_BYTES_MAX)), base);
}

function expiring(answer: unknown, from: string): ExpiringKeys {
  const parsed = KEYS.safeParse(answer);
  if (!parsed.success) throw new SourceError(`${new URL(from).origin} answered without credentials`);
  const { AccessKeyId, SecretAccessKey, Token, Expiration } = parsed.data;
  const untilMs = Date.parse(Expiration ?? '');
  return {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    sessionToken: Token || undefined,
    untilMs: Number.isNaN(untilMs) ? Date.now() + UNKNOWN_LIFE_MS : untilMs,
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const KEYS = z.object({
  AccessKeyId: z.string().min(1),
  SecretAccessKey: z.string().min(1),
  Token: z.string().optional(),
  Expiration: z.string().optional(),
});
/** Loopback, and the addresses of ECS and of EKS. */
const CONTAINER_HOSTS = /^(localhost|127(\.\d+){3}|\[::1\]|169\.254\.170\.(2|23)|\[fd00:ec2::23\])$/;
const ANSWER_BYTES_MAX = 64 * 1024;
const METADATA_TIMEOUT_MS = 1_000;
const RENEW_BEFORE_MS = 300_000;
const UNKNOWN_LIFE_MS = 900_000;
