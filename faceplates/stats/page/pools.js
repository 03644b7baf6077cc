// The pools as a table: one row per pool of the mesh, its resources as small squares, and a drawer with the details
// of every resource. Rows are updated in place, so focus and open drawers survive a refresh.

import {
  Rise,
  age,
  arrange,
  byId,
  count,
  duration,
  make,
  mark,
  percent,
  rate,
  say,
  summandsOf,
  words,
} from './format.js';
import { ResourceTable, STATES, Squares, partsOf, startTips } from './resources.js';

const COLUMNS = 8;
/** Maximum managers that are named next to a pool. */
const NAMES_MAX = 3;

export class PoolTable {
  /** @type {Map<string, PoolRow>} */ #rows = new Map();
  #table = byId('pools');

  constructor() {
    byId('legend').append(
      ...STATES.map(([state = '', meaning = '']) => {
        const item = make('li');
        const square = make('span', 'square');
        square.dataset['state'] = state;
        item.append(square, words(state));
        item.title = meaning;
        return item;
      }),
    );
    startTips();
  }

  /** @param {any[]} pools merged over their managers @param {any[]} processes */
  update(pools, processes) {
    const managers = new Map(
      processes
        .filter(({ roles }) => roles.includes('manager'))
        .map(({ name, machine, state }) => [name, { machine, state }]),
    );
    const bodies = [];
    const keys = new Set();
    for (const pool of pools) {
      keys.add(pool.id);
      const row = this.#rows.get(pool.id) ?? new PoolRow(`pool-${++made}`);
      this.#rows.set(pool.id, row);
      row.update(pool, managers);
      bodies.push(row.body);
    }
    for (const key of this.#rows.keys()) if (!keys.has(key)) this.#rows.delete(key);
    const head = this.#table.querySelector('thead');
    arrange(this.#table, head === null ? bodies : [head, ...bodies]);
    this.#table.hidden = pools.length === 0;
    byId('no-pools').hidden = pools.length > 0;
    const resources = pools.reduce((sum, pool) => sum + pool.resources.length, 0);
    const alive = pools.reduce((sum, pool) => sum + pool.alive, 0);
    say(
      byId('pools-count'),
      pools.length === 0 ? '' : `${count(pools.length)} with ${count(alive)} of ${count(resources)} resources alive`,
    );
  }
}

let made = 0;

class PoolRow {
  body = make('tbody', 'pool');
  #name = make('button', 'name');
  #service = make('b');
  #version = make('span', 'version');
  #chips = make('span', 'chips');
  #share = make('span', 'share');
  #shareText = make('span');
  #versions = make('a', '', 'versions');
  #note = make('p', 'pool-note');
  #alive = make('span', 'alive');
  #squares = new Squares((manager, index) => this.#open(true, manager, index));
  #bar = make('span', 'bar');
  #fill = make('span', 'fill');
  #queued = make('span', 'queued');
  #figures = {
    rate: cell('Calls/s'),
    p50: cell('p50'),
    p99: cell('p99'),
    errors: cell('Errors'),
    restarts: cell('Restarts'),
  };
  #errors = new Rise();
  #restarts = new Rise();
  #drawer = make('tr', 'drawer');
  #resources = new ResourceTable();
  /** @type {import('./resources.js').Part[]} */ #parts = [];
  /** @type {import('./resources.js').Managers} */ #managers = new Map();

  /** @param {string} id */
  constructor(id) {
    this.body.setAttribute('role', 'rowgroup');
    this.#name.type = 'button';
    this.#name.setAttribute('aria-expanded', 'false');
    this.#name.setAttribute('aria-controls', id);
    this.#name.append(this.#service, ' ', this.#version);
    this.#name.addEventListener('click', () => this.#open(this.#drawer.hidden !== false));
    this.#bar.append(this.#fill);
    this.#share.append(this.#shareText, ' · ', this.#versions);

    const first = cell('', 'th');
    first.scope = 'row';
    first.setAttribute('role', 'rowheader');
    first.append(this.#name, this.#chips, this.#share, this.#note);
    const second = cell('Resources');
    const line = make('span', 'line');
    line.append(this.#squares.element, this.#alive);
    second.append(line);
    const third = cell('Queue');
    const queue = make('span', 'line');
    queue.append(this.#bar, this.#queued);
    third.append(queue);
    for (const figure of Object.values(this.#figures)) figure.classList.add('number');
    const row = make('tr', 'main');
    row.setAttribute('role', 'row');
    row.append(first, second, third, ...Object.values(this.#figures));

    this.#drawer.id = id;
    this.#drawer.hidden = true;
    this.#drawer.setAttribute('role', 'row');
    const inside = cell('');
    inside.colSpan = COLUMNS;
    inside.append(this.#resources.element);
    this.#drawer.append(inside);
    this.body.append(row, this.#drawer);
  }

  /** @param {any} pool @param {import('./resources.js').Managers} managers */
  update(pool, managers) {
    this.#managers = managers;
    this.#parts = partsOf(pool);
    say(this.#service, pool.service);
    say(this.#version, pool.version);
    const extra = pool.id === `${pool.service}@${pool.version}` ? [] : [pool.id];
    const chips = [...extra, ...pool.roles.map((/** @type {string} */ role) => `role ${role}`), ...pool.tags];
    arrange(
      this.#chips,
      chips.map((_, i) => this.#chips.children[i] ?? make('span', 'chip')),
    );
    for (const [i, text] of chips.entries()) say(/** @type {Element} */ (this.#chips.children[i]), text);
    say(this.#shareText, `${percent(pool.weight)} of calls · ${placesOf(pool.managers)}`);
    mark(this.#versions, 'href', `#versions/${encodeURIComponent(pool.service)}`);
    mark(this.#versions, 'aria-label', `versions of ${pool.service} side by side`);
    const note = [pool.note, ...refusals(pool.suspects)].filter((text) => text !== '').join(' · ');
    say(this.#note, note);
    this.#note.hidden = note === '';
    mark(this.body, 'data-health', pool.alive === 0 ? 'down' : pool.alive < pool.wanted ? 'weak' : 'whole');

    this.#squares.update(`${pool.service} ${pool.version}`, this.#parts);
    say(
      this.#alive,
      pool.alive === pool.wanted ? `${count(pool.alive)} alive` : `${count(pool.alive)} of ${count(pool.wanted)} alive`,
    );
    const full = pool.queueMax > 0 ? Math.min(1, pool.queued / pool.queueMax) : 0;
    this.#fill.style.inlineSize = `${pool.queued > 0 ? Math.max(3, full * 100) : 0}%`;
    this.#bar.classList.toggle('full', full >= 0.8);
    say(this.#queued, `${count(pool.queued)} / ${count(pool.queueMax)}`);

    const { figures, restarts } = { figures: this.#figures, restarts: Object.entries(pool.restartsByReason) };
    put(figures.rate, rate(pool.ratePerS), `${count(pool.calls)} calls since the start`);
    put(figures.p50, duration(pool.p50Ms));
    put(figures.p99, duration(pool.p99Ms), `p99 of the wait in the queue: ${duration(pool.queueP99Ms)}`);
    put(figures.errors, count(pool.errors));
    figures.errors.classList.toggle('some', this.#errors.isRecent(pool.errors, summandsOf(pool)));
    const all = restarts.reduce((sum, [, n]) => sum + Number(n), 0);
    put(figures.restarts, count(all), restarts.map(([reason, n]) => `${words(reason)}: ${n}`).join(', '));
    figures.restarts.classList.toggle('some', this.#restarts.isRecent(all, summandsOf(pool)));
    if (!this.#drawer.hidden) this.#resources.update(this.#parts, managers);
  }

  /** @param {boolean} isOpen @param {string} [manager] @param {number} [index] */
  #open(isOpen, manager, index) {
    this.#drawer.hidden = !isOpen;
    this.#name.setAttribute('aria-expanded', String(isOpen));
    if (!isOpen) return;
    this.#resources.update(this.#parts, this.#managers);
    this.#resources.choose(manager, index);
  }
}

/** @param {string[]} managers */
function placesOf(managers) {
  return managers.length <= NAMES_MAX ? `on ${managers.join(', ')}` : `on ${count(managers.length)} managers`;
}

/** @param {string} label @param {'td' | 'th'} [tag] */
function cell(label, tag = 'td') {
  const element = make(tag);
  element.setAttribute('role', 'cell');
  if (label !== '') element.dataset['label'] = label;
  return /** @type {HTMLTableCellElement} */ (element);
}

/** @param {HTMLElement} element @param {string} text @param {string} [title] */
function put(element, text, title = '') {
  say(element, text);
  mark(element, 'title', title);
}

/** Says which calls a pool refuses because they have cost copies. @param {any[]} suspects @returns {string[]} */
function refusals(suspects = []) {
  const refused = suspects.filter(({ refusedForMs }) => refusedForMs > 0);
  const shown = refused.slice(0, REFUSALS_SHOWN_MAX).map(({ method, caller, losses, refusedForMs }) => {
    const cost = losses > 0 ? `it has cost ${count(losses)} ${losses === 1 ? 'copy' : 'copies'}` : 'it may cost copies';
    return `refuses ${method} of ${caller} as poison for ${age(refusedForMs)}: ${cost}`;
  });
  const more = refused.length - shown.length;
  return more === 0 ? shown : [...shown, `refuses ${count(more)} more calls`];
}

const REFUSALS_SHOWN_MAX = 3;
