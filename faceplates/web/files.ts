// The static files of a site: finds the one that a path means, and hands it to `send`, which knows types, ETag,
// ranges and 304. What it refuses to find: anything outside its folder, also behind `..` or a link; names that begin
// with a dot; what is no plain file. To all of these it is as if there were no file, so that nobody learns what else
// is on the disk.

import { realpath, stat } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import path from 'node:path';
import send from 'send';

/** What a path means below a folder. */
export type StaticFile =
  /** Name of the file from the folder, with `/`, links resolved. */
  | { readonly kind: 'file'; readonly root: string; readonly name: string }
  /** A folder with an index, asked for without the slash that relative links in it need. */
  | { readonly kind: 'folder' };

/** @param rest the path below the site's prefix, percent-encoded, beginning with `/`; '' for the prefix itself */
export async function findFile(folder: string, rest: string): Promise<StaticFile | undefined> {
  const decoded = decodePath(rest);
  if (decoded === undefined) return undefined;
  const root = await realPathOf(folder);
  if (root === undefined) return undefined;
  const found = await placeBelow(root, decoded);
  if (found === undefined) return undefined;
  const kind = await kindOf(found);
  if (kind === 'file') return decoded.endsWith('/') ? undefined : { kind, root, name: nameBelow(root, found) };
  if (kind !== 'folder') return undefined;
  const index = await placeBelow(root, `${nameBelow(root, found)}/${INDEX}`);
  if (index === undefined || (await kindOf(index)) !== 'file') return undefined;
  return decoded.endsWith('/') ? { kind: 'file', root, name: nameBelow(root, index) } : { kind };
}

/**
 * Writes the file, a part of it, or that it has not changed. Resolves when all was handed over; false when it
 * vanished meanwhile.
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

/** The path in plain letters; undefined when it cannot be the name of a file that is served. */
function decodePath(rest: string): string | undefined {
  let decoded: string;
  try {
    decoded = decodeURIComponent(rest);
  } catch {
    return undefined;
  }
  // A backslash is a separator to some browsers and systems; `..` begins with a dot, too.
  if (/[\0\\]/.test(decoded)) return undefined;
  return decoded.split('/').some((step) => step.startsWith('.')) ? undefined : decoded;
}

/** The real path of a name below the folder; undefined when there is none or a link leads out. */
async function placeBelow(root: string, name: string): Promise<string | undefined> {
  const found = await realPathOf(path.join(root, name));
  if (found === undefined) return undefined;
  return found === root || found.startsWith(root.endsWith(path.sep) ? root : root + path.sep) ? found : undefined;
}

function nameBelow(root: string, found: string): string {
  return path.relative(root, found).split(path.sep).join('/');
}

// Whatever the reason (absent, not allowed, a name too long): it is no file to serve.

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
