// The live page: fetches /mesh, /durations and /events once a second, one after the other, and shows the responses.
// If the mesh does not answer, the page says so, keeps the last values and continues to fetch. It detects a restart
// by the pid.

import { Charts } from './charts.js';
import { EventList } from './events.js';
import { Rise, age, arrange, byId, bytes, count, duration, make, mark, rate, say } from './format.js';
import { IndexList } from './indices.js';
import { PoolTable } from './pools.js';
import { ProcessList, summary } from './processes.js';

const INTERVAL_MS = 1000;
const TIMEOUT_MS = 5000;

const pools = new PoolTable();
const indices = new IndexList();
const processes = new ProcessList();
const charts = new Charts();
const events = new EventList();

/** @type {any} */ let last;
let lostAtMs = 0;
let heardAtMs = 0;

async function refresh() {
  const startedMs = performance.now();
  try {
    const status = await fetchJson('mesh');
    const isRestarted = last !== undefined && (status.pid !== last.pid || status.uptimeMs < last.uptimeMs);
    if (isRestarted) {
      events.restarted();
      charts.restarted();
    }
    const durations = await fetchJson('durations');
    const news = await fetchJson(`events?after=${events.lastSeq}`);
    heard();
    show(status, durations, isRestarted);
    events.add(news.events, status.processes.length > 1);
    last = status;
  } catch (error) {
    lost(error);
  }
  setTimeout(refresh, Math.max(100, INTERVAL_MS - (performance.now() - startedMs)));
}

/** @param {string} what @returns {Promise<any>} */
async function fetchJson(what) {
  const response = await fetch(what, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: 'no-store' });
  if (!response.ok) throw new Error(`GET ${what} returned ${response.status}`);
  return response.json();
}

function heard() {
  heardAtMs = Date.now();
  if (lostAtMs === 0) return;
  lostAtMs = 0;
  byId('banner').hidden = true;
  document.body.classList.remove('lost');
}

/** @param {unknown} error */
function lost(error) {
  if (lostAtMs === 0) {
    lostAtMs = Date.now();
    charts.gap();
    document.body.classList.add('lost');
    mark(byId('state'), 'data-state', 'unknown');
    say(byId('state'), 'not reachable');
    const since = heardAtMs === 0 ? '' : ` The figures are from ${new Date(heardAtMs).toLocaleTimeString()}.`;
    say(byId('banner'), `Connection lost, retrying every second.${since}`);
    byId('banner').hidden = false;
    document.title = `✕ ${last?.mesh ?? 'Katamari'}`;
  }
  byId('banner').title = String(error);
}

/** @param {any} status @param {any} durations @param {boolean} isRestarted */
function show(status, durations, isRestarted) {
  const state = status.isDraining ? 'draining' : status.isReady ? 'ready' : 'not ready';
  say(byId('mesh'), status.mesh);
  say(byId('state'), state);
  mark(byId('state'), 'data-state', state.replace(' ', '-'));
  say(byId('note'), status.note);
  document.title = `${state === 'ready' ? '' : '△ '}${status.mesh} · ${state}`;
  facts(status);
  sums(status, isRestarted);
  charts.sample(status, durations);
  pools.update(status.pools, status.processes);
  indices.update(status.indices);
  processes.update(status);
  const isMany = status.processes.length > 1;
  // Calls are counted by the process that accepts them, pools by their managers.
  say(byId('calls-of'), isMany ? `since the start, through ${status.name}` : 'since the start');
}

/** @param {any} status */
function facts(status) {
  const connections = Object.entries(status.connections).map(([name, n]) => `${name} ${count(Number(n))}`);
  const isMany = status.processes.length > 1;
  const rows = [
    ['Processes', isMany ? summary(status.processes) : ''],
    ['Leader', !isMany ? '' : status.leader === '' ? 'none' : `${status.leader}, term ${status.term}`],
    ['Process', `${status.name} (pid ${status.pid})`],
    ['Roles', status.roles.join(', ')],
    ['Scope', status.roles.includes('faceplate') ? '' : 'this process only; a faceplate shows the whole mesh'],
    ['Up for', age(status.uptimeMs)],
    ['Version', `${status.version} on ${status.runtime}`],
    ['Memory', bytes(status.rssBytes)],
    ['Timeout', duration(status.timeoutMs)],
    ['Connections', connections.join(', ')],
    ...status.listeners.map((/** @type {any} */ listener) => [listener.name, listener.address]),
  ].filter(([, text]) => text !== '');
  terms(byId('facts'), rows);
}

/** @type {[name: string, text: string][]} */
const SUMS = [
  ['accepted', 'accepted'],
  ['replied', 'replied'],
  ['failed', 'failed'],
  ['refused', 'refused'],
  ['timed_out', 'timed out'],
  ['cancelled', 'cancelled'],
  ['inFlight', 'in flight'],
];
const rises = SUMS.map(() => new Rise());

/**
 * Shows accepted = replied + failed + ... + in flight, and the change of each since the last refresh.
 * @param {any} status
 * @param {boolean} isRestarted
 */
function sums(status, isRestarted) {
  const list = byId('sums');
  terms(
    list,
    SUMS.map(([name, text]) => [text, count(status.calls[name])]),
  );
  const seconds = last === undefined || isRestarted ? 0 : (status.uptimeMs - last.uptimeMs) / 1000;
  for (const [i, [name]] of SUMS.entries()) {
    const tile = list.children[i];
    if (tile === undefined) continue;
    mark(tile, 'data-sum', name);
    tile.classList.toggle('some', rises[i]?.isRecent(status.calls[name]) ?? false);
    const perS = seconds > 0 && name !== 'inFlight' ? (status.calls[name] - last.calls[name]) / seconds : 0;
    const moved = tile.children[2] ?? tile.appendChild(make('dd', 'moved'));
    say(moved, perS > 0 ? `${rate(perS)}/s` : '');
  }
}

/**
 * Fills a dl with pairs of term and text, reusing its elements.
 * @param {HTMLElement} list
 * @param {string[][]} rows
 */
function terms(list, rows) {
  arrange(
    list,
    rows.map((_, i) => list.children[i] ?? pair()),
  );
  for (const [i, [term, text]] of rows.entries()) {
    const [dt, dd] = /** @type {Element[]} */ ([...(list.children[i]?.children ?? [])]);
    if (dt !== undefined) say(dt, term ?? '');
    if (dd !== undefined) say(dd, text ?? '');
  }
}

function pair() {
  const div = make('div');
  div.append(make('dt'), make('dd'));
  return div;
}

/** The view of the versions of one service, `#versions/Search`. Its code is loaded when it is first opened. */
/** @type {import('./versions.js').VersionsView | undefined} */ let versions;

async function follow() {
  const [, service = '', first = '', second = ''] = VERSIONS_HASH.exec(location.hash) ?? [];
  document.body.classList.toggle('shows-versions', service !== '');
  byId('versions').hidden = service === '';
  versions?.close();
  if (service === '') return;
  const { VersionsView } = await import('./versions.js');
  versions ??= new VersionsView();
  versions.open(...[service, first, second].map(decoded));
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const VERSIONS_HASH = /^#versions\/([^/]+)(?:\/([^/]+)\/([^/]+))?$/;
addEventListener('hashchange', () => void follow());
void follow();
void refresh();
