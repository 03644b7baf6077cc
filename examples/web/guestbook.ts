// A guest book: a small web application as a chassis, with static files in public/. It has one handler, which gets a
// request and returns a response. Forms, redirects, cookies and escaping work as in any web server. This sample
// keeps its entries in the memory of one process, so katamari.yaml runs one copy.
import { chassis } from 'katamari';

interface Header {
  readonly name: string;
  readonly value: string;
}

interface Request {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly Header[];
  readonly body: Uint8Array;
  readonly prefix: string;
}

interface Response {
  readonly status?: number;
  readonly headers?: readonly Header[];
  readonly body?: Uint8Array;
}

interface Entry {
  readonly name: string;
  readonly words: string;
  readonly at: Date;
}

const entries: Entry[] = [];
const entriesMax = 100;
const textMax = 500;

await chassis({
  idl: new URL('./guestbook.thrift', import.meta.url),
  service: 'GuestBook',
  version: '1.0.0',
  tags: ['sample'],
  handlers: { handle_request: ({ request }: { request: Request }): Response => answer(request) },
});

function answer(request: Request): Response {
  const isHere = request.path === request.prefix || request.path === `${request.prefix}/`;
  if (!isHere)
    return page(404, request, '<p class="note">There is no such page. <a href="./">To the guest book</a></p>');
  switch (request.method) {
    case 'GET':
    case 'HEAD':
      return page(200, request, '');
    case 'POST':
      return sign(request);
    default:
      return { status: 405, headers: [{ name: 'Allow', value: 'GET, HEAD, POST' }] };
  }
}

function sign(request: Request): Response {
  const form = new URLSearchParams(Buffer.from(request.body).toString());
  const name = (form.get('name') ?? '').trim().slice(0, textMax);
  const words = (form.get('words') ?? '').trim().slice(0, textMax);
  if (name === '' || words === '') return page(400, request, '<p class="note">Please give a name and a few words.</p>');
  entries.unshift({ name, words, at: new Date() });
  entries.length = Math.min(entries.length, entriesMax);
  // Redirect after POST, so that a reload does not submit the form again.
  return {
    status: 303,
    headers: [
      { name: 'Location', value: `${request.prefix}/` },
      { name: 'Set-Cookie', value: `guest=${encodeURIComponent(name)}; Path=/; SameSite=Lax; HttpOnly` },
    ],
  };
}

function page(status: number, request: Request, note: string): Response {
  const guest = escape(cookie(request, 'guest'));
  const list = entries.map(
    ({ name, words, at }) =>
      `<li><p>${escape(words)}</p><footer><b>${escape(name)}</b> <time datetime="${at.toISOString()}">${at.toISOString().slice(0, 16).replace('T', ' ')}</time></footer></li>`,
  );
  const html = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Guest book</title>
<link rel="icon" href="${request.prefix}/icon.svg">
<link rel="stylesheet" href="${request.prefix}/style.css">
<main>
  <h1>Guest book</h1>
  <p class="lead">This page comes from a chassis, its style sheet from a folder. <a href="${request.prefix}/about.html">How</a></p>
  ${note}
  <form method="post" action="${request.prefix}/">
    <label>Your name <input name="name" value="${guest}" maxlength="60" required autocomplete="name"></label>
    <label>A few words <textarea name="words" rows="3" maxlength="${textMax}" required></textarea></label>
    <button>Sign</button>
  </form>
  <h2>${entries.length === 0 ? 'Nobody has signed yet' : entries.length === 1 ? 'One guest so far' : `${entries.length} guests so far`}</h2>
  <ol class="entries">${list.join('')}</ol>
</main>
</html>
`;
  const headers = [
    { name: 'Content-Type', value: 'text/html; charset=utf-8' },
    { name: 'Cache-Control', value: 'no-store' },
    {
      name: 'Content-Security-Policy',
      value: "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'",
    },
  ];
  return { status, headers, body: Buffer.from(html) };
}

function cookie({ headers }: Request, name: string): string {
  const all = headers.filter((header) => header.name.toLowerCase() === 'cookie').map(({ value }) => value);
  const found = new RegExp(`(?:^|; *)${name}=([^;]*)`).exec(all.join('; '))?.[1] ?? '';
  try {
    return decodeURIComponent(found);
  } catch {
    return '';
  }
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
