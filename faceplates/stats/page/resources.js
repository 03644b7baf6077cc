// The resources of one pool in two forms: small squares, and rows in the drawer. They are grouped by manager if the
// pool has several, because resource names are unique only within a manager. Squares and rows are updated in place,
// so focus and tooltips survive a refresh.

import { age, arrange, byId, bytes, count, make, mark, plural, say, words } from './format.js';

/** States and their meaning. The style sheet also gives each a shape, not only a color. */
export const STATES = [
  ['idle', 'free'],
  ['busy', 'at its concurrency limit'],
  ['starting', 'launched, not ready yet'],
  ['draining', 'finishes its calls, takes no new ones'],
  ['stopping', 'its process is being ended'],
  ['backing_off', 'failed, waits before the next start'],
  ['failed', 'refused until an operator restarts it'],
];
const COLUMNS = ['Resource', 'State', 'Pid', 'In flight', 'Calls', 'Age', 'Memory', 'Restarts', 'Note'];
/** Maximum squares of a pool, divided evenly among its managers. The number of further resources is shown as text. */
const SQUARES_MAX = 200;

/**
 * Machine and state of managers by name. @typedef {Map<string, { machine: string, state: string }>} Managers
 */
/** @typedef {{ manager: string, resources: any[] }} Part */

/**
 * Returns the resources of a pool by manager, in the order of the managers. An unreachable manager has none.
 * @param {any} pool
 * @returns {Part[]}
 */
export function partsOf(pool) {
  return pool.managers.map((/** @type {string} */ manager) => ({
    manager,
    resources: pool.resources.filter((/** @type {any} */ resource) => resource.manager === manager),
  }));
}

export class Squares {
  element = make('span', 'squares');
  /** @type {Map<string, Place>} */ #places = new Map();

  /** @param {(manager: string, index: number) => void} choose called when a square is clicked */
  constructor(choose) {
    this.element.setAttribute('role', 'group');
    this.element.addEventListener('keydown', walk);
    this.element.addEventListener('click', (event) => {
      for (const [manager, place] of this.#places) {
        const index = place.squares.indexOf(/** @type {HTMLElement} */ (event.target));
        if (index !== -1) choose(manager, index);
      }
    });
  }

  /** @param {string} name of the pool, for screen readers @param {readonly Part[]} parts */
  update(name, parts) {
    mark(this.element, 'aria-label', `Resources of ${name}`);
    const shownMax = Math.max(1, Math.floor(SQUARES_MAX / Math.max(1, parts.length)));
    const places = parts.map(({ manager, resources }) => {
      const place = this.#places.get(manager) ?? new Place();
      this.#places.set(manager, place);
      place.update(parts.length > 1 ? manager : '', resources, shownMax);
      return place.element;
    });
    for (const [manager, { element }] of this.#places) if (!places.includes(element)) this.#places.delete(manager);
    arrange(this.element, places);
    if (this.element.querySelector('.square[tabindex="0"]') === null)
      this.element.querySelector('.square')?.setAttribute('tabindex', '0');
  }
}

/** The squares of one manager, after its name if the pool has several managers. */
class Place {
  element = make('span', 'place');
  /** @type {HTMLElement[]} */ squares = [];
  #name = make('span', 'place-name');
  #more = make('span', 'more');

  /** @param {string} manager '' if it is the only one @param {any[]} resources @param {number} shownMax */
  update(manager, resources, shownMax) {
    const shown = resources.slice(0, shownMax);
    this.squares = shown.map((_, i) => this.squares[i] ?? square());
    for (const [i, resource] of shown.entries()) {
      const element = /** @type {HTMLElement} */ (this.squares[i]);
      mark(element, 'data-state', resource.state);
      mark(element, 'aria-label', describe(resource, manager));
    }
    say(this.#name, manager);
    const more = resources.length - shown.length;
    say(this.#more, more > 0 ? `+ ${count(more)}` : resources.length === 0 ? 'none known' : '');
    arrange(this.element, [
      ...(manager === '' ? [] : [this.#name]),
      ...this.squares,
      ...(this.#more.textContent === '' ? [] : [this.#more]),
    ]);
    if (manager === '') {
      this.element.removeAttribute('role');
      this.element.removeAttribute('aria-label');
    } else {
      mark(this.element, 'role', 'group');
      mark(this.element, 'aria-label', `on ${manager}`);
    }
  }
}

/** A row for each resource, below the name of its manager if the pool has several. */
export class ResourceTable {
  element = make('div', 'scroll');
  #table = make('table', 'resources');
  #head = make('thead');
  /** @type {Map<string, { body: HTMLElement, name: HTMLElement, title: HTMLElement, rows: HTMLElement[] }>} */ #parts =
    new Map();

  constructor() {
    this.element.tabIndex = 0;
    this.element.setAttribute('role', 'region');
    this.element.setAttribute('aria-label', 'Resource details');
    const row = make('tr');
    for (const name of COLUMNS) {
      const th = make('th', '', name);
      th.scope = 'col';
      row.append(th);
    }
    this.#head.append(row);
    this.#table.append(this.#head);
    this.element.append(this.#table);
  }

  /** @param {readonly Part[]} parts @param {Managers} managers */
  update(parts, managers) {
    const bodies = parts.map(({ manager, resources }) => {
      const part = this.#parts.get(manager) ?? managerPart();
      this.#parts.set(manager, part);
      say(part.name, title(manager, resources, managers));
      part.rows = resources.map((_, i) => part.rows[i] ?? resourceRow());
      for (const [i, resource] of resources.entries()) fill(/** @type {HTMLElement} */ (part.rows[i]), resource);
      arrange(part.body, [...(parts.length > 1 ? [part.title] : []), ...part.rows]);
      return part.body;
    });
    for (const [manager, { body }] of this.#parts) if (!bodies.includes(body)) this.#parts.delete(manager);
    arrange(this.#table, [this.#head, ...bodies]);
  }

  /**
   * Marks one row and scrolls to it. Without a manager, marks none.
   * @param {string} [manager]
   * @param {number} [index]
   */
  choose(manager, index) {
    for (const row of this.#table.querySelectorAll('.chosen')) row.classList.remove('chosen');
    const chosen = manager === undefined ? undefined : this.#parts.get(manager)?.rows[index ?? 0];
    chosen?.classList.add('chosen');
    chosen?.scrollIntoView({ block: 'nearest' });
  }
}

/** @param {string} manager @param {any[]} resources @param {Managers} managers */
function title(manager, resources, managers) {
  const { machine = '', state = 'up' } = managers.get(manager) ?? {};
  const have = resources.length === 0 ? 'none known' : plural(resources.length, 'resource');
  return [manager, machine === manager ? '' : machine, have, state === 'up' ? '' : state]
    .filter((text) => text !== '')
    .join(' · ');
}

function managerPart() {
  const body = make('tbody');
  const name = make('th', 'place-title');
  name.colSpan = COLUMNS.length;
  name.scope = 'rowgroup';
  const row = make('tr');
  row.append(name);
  return { body, name, title: row, rows: [] };
}

/** @param {HTMLElement} row @param {any} resource */
function fill(row, resource) {
  const cells = /** @type {Element[]} */ ([...row.children]);
  const texts = [
    resource.name,
    words(resource.state),
    resource.pid === 0 ? '–' : String(resource.pid),
    count(resource.inFlight),
    count(resource.callsServed),
    resource.pid === 0 ? '–' : age(resource.ageMs),
    resource.rssBytes === 0 ? '–' : bytes(resource.rssBytes),
    count(resource.restarts),
    resource.note,
  ];
  for (const [c, text] of texts.entries()) {
    const element = cells[c];
    if (element !== undefined) say(c === 1 ? (element.lastElementChild ?? element) : element, text);
  }
  const dot = cells[1]?.firstElementChild;
  if (dot !== undefined && dot !== null) mark(dot, 'data-state', resource.state);
}

/** @param {any} resource @param {string} manager */
function describe(resource, manager) {
  const parts = [`${resource.name}${manager === '' ? '' : ` on ${manager}`}: ${words(resource.state)}`];
  if (resource.pid !== 0) parts.push(`pid ${resource.pid}, ${age(resource.ageMs)} old, ${bytes(resource.rssBytes)}`);
  parts.push(`${count(resource.callsServed)} calls, ${count(resource.restarts)} restarts`);
  if (resource.note !== '') parts.push(resource.note);
  return parts.join('\n');
}

function square() {
  const element = make('button', 'square');
  element.type = 'button';
  element.tabIndex = -1;
  element.dataset['tip'] = '';
  return element;
}

function resourceRow() {
  const row = make('tr');
  for (let i = 0; i < COLUMNS.length; i++) {
    const td = make('td', [2, 3, 4, 5, 6, 7].includes(i) ? 'number' : '');
    if (i === 1) td.append(make('span', 'square small'), make('span'));
    row.append(td);
  }
  return row;
}

/**
 * Moves the focus among the squares of a pool with the arrow keys, across managers. The Tab key stops at a pool once.
 * @param {KeyboardEvent} event
 */
function walk(event) {
  const group = /** @type {HTMLElement} */ (event.currentTarget);
  const all = /** @type {HTMLElement[]} */ ([...group.querySelectorAll('.square')]);
  const at = all.indexOf(/** @type {HTMLElement} */ (event.target));
  const to = {
    ArrowRight: at + 1,
    ArrowDown: at + 1,
    ArrowLeft: at - 1,
    ArrowUp: at - 1,
    Home: 0,
    End: all.length - 1,
  }[event.key];
  const next = to === undefined ? undefined : all[to];
  if (at === -1 || next === undefined) return;
  event.preventDefault();
  all[at]?.setAttribute('tabindex', '-1');
  next.setAttribute('tabindex', '0');
  next.focus();
}

/**
 * One tooltip for all squares and pictures of shards, shown below what is hovered or focused. Its text is the
 * accessible name of the element.
 */
export function startTips() {
  const tip = byId('tip');
  /** @param {Event} event */
  const show = (event) => {
    const target = /** @type {Element} */ (event.target);
    if (target.hasAttribute('data-tip')) showTip(target);
    else tip.hidden = true;
  };
  const hide = () => {
    tip.hidden = true;
  };
  document.addEventListener('mouseover', show);
  document.addEventListener('focusin', show);
  document.addEventListener('focusout', hide);
  document.addEventListener('scroll', hide, { passive: true, capture: true });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') hide();
  });
}

/** @param {Element} target what the tooltip names @param {Element} [place] where it is shown */
export function showTip(target, place = target) {
  const tip = byId('tip');
  say(tip, target.getAttribute('aria-label') ?? '');
  tip.hidden = false;
  const box = place.getBoundingClientRect();
  const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const below = box.bottom + 6;
  const top = below + tip.offsetHeight > window.innerHeight ? box.top - tip.offsetHeight - 6 : below;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${top}px`;
}
