// Which sources a manager may read: those below the prefixes of `content.sources` in its configuration. Without this
// check, an admin token could read any file of the machine and call any host of its network.

import { realpath } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * Why a source may not be read; undefined when it may. Looks at the text alone: `whySourceRefused` follows links too.
 * @param allowed URL prefixes. A source is below a prefix when it is that folder, or in it at any depth.
 */
export function whyNotAllowed(source: string, allowed: readonly string[]): string | undefined {
  const found = readUrl(source);
  if (typeof found === 'string') return `The source ${shownSource(source)} is refused: ${found}`;
  for (const prefix of allowed) {
    const folder = readUrl(prefix);
    if (typeof folder === 'string' || folder.origin !== found.origin) continue;
    const path = folder.path.replace(/\/$/, '');
    if (found.path === path || found.path.startsWith(`${path}/`)) return undefined;
  }
  return refusal(shownSource(source), allowed);
}

/** As `whyNotAllowed`, and resolves the symbolic links in the paths of `file:` URLs. */
export async function whySourceRefused(source: string, allowed: readonly string[]): Promise<string | undefined> {
  const why = whyNotAllowed(source, allowed);
  if (why !== undefined || new URL(source).protocol !== 'file:') return why;
  const real = await realFile(source);
  // A path that does not exist cannot be read, and says so when it is listed.
  if (real === undefined) return undefined;
  const folders = await Promise.all(allowed.filter((prefix) => /^file:/i.test(prefix)).map(realFile));
  const isBelow =
    whyNotAllowed(
      real,
      folders.filter((folder) => folder !== undefined),
    ) === undefined;
  return isBelow ? undefined : refusal(`${shownSource(source)}, which is a link to ${real}`, allowed);
}

/** Formats a source for messages, without user, password and query, which may contain secrets. */
export function shownSource(source: string): string {
  if (!URL.canParse(source)) return JSON.stringify(source.slice(0, SHOWN_MAX));
  const { protocol, host, pathname } = new URL(source);
  return `${protocol}//${host}${pathname}`.slice(0, SHOWN_MAX);
}

function refusal(source: string, allowed: readonly string[]): string {
  const has = allowed.length === 0 ? 'is empty' : `has ${allowed.slice(0, PREFIXES_SHOWN).map(shownSource).join(', ')}`;
  const more = allowed.length > PREFIXES_SHOWN ? ` and ${allowed.length - PREFIXES_SHOWN} more` : '';
  return `The source ${source} is not allowed on this manager: content.sources ${has}${more}; add a prefix of the source there`;
}

interface PlainUrl {
  /** Scheme, host and port, in one spelling. */
  readonly origin: string;
  readonly path: string;
}

/** Returns what is wrong with a URL that can be read in more than one way. */
function readUrl(text: string): PlainUrl | string {
  if (text.length > URL_MAX) return `it is longer than ${URL_MAX} characters`;
  // oxlint-disable-next-line no-control-regex -- These are what is looked for.
  if (/[\\\u0000-\u0020\u007f]/.test(text)) return 'it has a backslash, a space or a control character';
  if (!/^(file:\/(\/\/)?($|[^/])|[a-z][a-z0-9]*:\/\/[^/])/i.test(text) || !URL.canParse(text))
    return 'it is no URL such as file:///srv/indices/wiki';
  // The system reads an escaped slash as a separator, the comparison does not. An escaped dot can become `..`.
  if (/%(2e|2f|5c|0[0-9a-f]|1[0-9a-f]|7f)/i.test(text)) return 'it has an escaped dot, slash or control character';
  if (/%(?![0-9a-f]{2})/i.test(text)) return 'it has a "%" that escapes nothing';
  if (/\/\.\.?(\/|$)/.test(text)) return 'it has the steps "." or ".."';
  if (/[?#]/.test(text)) return 'it has a query or a fragment';
  const url = new URL(text);
  if (!SCHEMES.has(url.protocol))
    return `its scheme is "${url.protocol}", expected ${[...SCHEMES].map((scheme) => `"${scheme}"`).join(', ')}`;
  if (url.username !== '' || url.password !== '' || /^[a-z0-9]+:\/+[^/]*@/i.test(text))
    return 'it has a user or a password; credentials come from the environment of the manager';
  if (url.protocol === 'file:' && url.host !== '') return 'it names a host; a file: URL has three slashes';
  if (/\/\//.test(url.pathname)) return 'it has an empty step in its path';
  const port = url.port === '' ? (PORTS[url.protocol] ?? '') : url.port;
  try {
    // One spelling: `%61` is `a`.
    const path = decodeURIComponent(url.pathname);
    // Names of buckets differ by case.
    const host = url.protocol === 's3:' ? url.hostname : url.hostname.toLowerCase();
    return { origin: `${url.protocol}//${host}:${port}`, path: path === '' ? '/' : path };
  } catch {
    return 'it has escapes that are not UTF-8';
  }
}

/** The `file:` URL with all links resolved; undefined when it does not exist. */
async function realFile(url: string): Promise<string | undefined> {
  try {
    return pathToFileURL(await realpath(fileURLToPath(url))).href;
  } catch {
    return undefined;
  }
}

const SCHEMES: ReadonlySet<string> = new Set(['file:', 'http:', 'https:', 's3:', 'hdfs:', 'swebhdfs:']);
/** Default ports. */
const PORTS: Readonly<Record<string, string>> = {
  'http:': '80',
  'https:': '443',
  'hdfs:': '9870',
  'swebhdfs:': '9871',
};
const URL_MAX = 2_048;
const SHOWN_MAX = 300;
const PREFIXES_SHOWN = 5;
