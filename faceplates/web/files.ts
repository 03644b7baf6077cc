// Static files of a site: resolves a URL path to a file, which `send` then serves with its type, ETag, ranges and
// 304. Files outside the folder (also through `..` or a symbolic link), names that begin with a dot, and everything
// that is not a regular file are treated as missing, so that responses reveal nothing about the rest of the disk.

import { realpath, stat } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import path from 'node:path';
import send from 'send';

/** The result of resolving a path. */
export type StaticFile =
  /** A file. `name` is relative to `root`, with `/` as separator and symbolic links resolved. */
  | { readonly kind: 'file'; readonly root: string; readonly name: string }
  /** A folder with an index, requested without the trailing slash that its relative links need. */
  | { readonly kind: 'folder' };

/**
 * Finds the file of a path; undefined if there is none to serve.
 * @param rest the path below the site's prefix, percent-encoded, beginning with `/`; '' for the prefix itself
 */
export async function findFile(folder: string, rest: string): Promise<StaticFile | undefined> {
  const decoded = decodePath(rest);
  if (decoded === undefined) return undefined;
  const root = await realPathOf(folder);
  if (root === undefined) return undefined;
  const found = await resolveBelow(root, decoded);
  if (found === undefined) return undefined;
  const kind = await kindOf(found);
  if (kind === 'file') return decoded.endsWith('/') ? undefined : { kind, root, name: nameBelow(root, found) };
  if (kind !== 'folder') return undefined;
  const index = await resolveBelow(root, `${nameBelow(root, found)}/${INDEX}`);
  if (index === undefined || (await kindOf(index)) !== 'file') return undefined;
  return decoded.endsWith('/') ? { kind: 'file', root, name: nameBelow(root, index) } : { kind };
}

/**
 * Sends the file, a range of it, or 304. Resolves with true when the response has ended, and with false if the file
 * no longer exists.
 */
export function sendFile(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { root, name }: { readonly root: string; readonly name: string },
  cacheControl: string,
): Promise<boolean> {
  return new Promise((resolve) => {
    outgoing.once('close', () => resolve(true));
    send(incoming, name.split('/').map(encodeURIComponent).join('/'), {
      root,
      index: false,
      dotfiles: 'ignore',
      cacheControl: false,
    })
      .on('headers', (response: ServerResponse) => {
        response.setHeader('cache-control', cacheControl);
        response.setHeader('x-content-type-options', 'nosniff');
      })
      .on('error', (error: { readonly status?: number }) => {
        if (outgoing.headersSent) {
          outgoing.destroy();
          return;
        }
        if (error.status === 416 || error.status === 412) {
          outgoing.statusCode = error.status;
          outgoing.setHeader('content-length', '0');
          outgoing.end();
          return;
        }
        for (const header of outgoing.getHeaderNames()) outgoing.removeHeader(header);
        resolve(false);
      })
      .pipe(outgoing);
  });
}

/** Decodes a path; undefined for one that cannot name a file to serve. */
function decodePath(rest: string): string | undefined {
  let decoded: string;
  try {
    decoded = decodeURIComponent(rest);
  } catch {
    return undefined;
  }
  // Some browsers and systems treat a backslash as a separator. The check for a leading dot also covers `..`.
  if (/[\0\\]/.test(decoded)) return undefined;
  return decoded.split('/').some((step) => step.startsWith('.')) ? undefined : decoded;
}

/** Returns the real path of a name below the folder; undefined if it does not exist or a link leads outside. */
async function resolveBelow(root: string, name: string): Promise<string | undefined> {
  const found = await realPathOf(path.join(root, name));
  if (found === undefined) return undefined;
  return found === root || found.startsWith(root.endsWith(path.sep) ? root : root + path.sep) ? found : undefined;
}

function nameBelow(root: string, found: string): string {
  return path.relative(root, found).split(path.sep).join('/');
}

// These return undefined on any error (missing, no permission, name too long): there is no file to serve.

async function realPathOf(name: string): Promise<string | undefined> {
  try {
    return await realpath(name);
  } catch {
    return undefined;
  }
}

async function kindOf(name: string): Promise<'file' | 'folder' | undefined> {
  try {
    const found = await stat(name);
    return found.isFile() ? 'file' : found.isDirectory() ? 'folder' : undefined;
  } catch {
    return undefined;
  }
}

const INDEX = 'index.html';
