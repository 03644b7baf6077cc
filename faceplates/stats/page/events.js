// The latest events, newest first. The last lines of output of a crashed chassis can be expanded. In a mesh of
// several processes, each event names its process.

import { byId, make, words } from './format.js';

const KEPT_MAX = 200;
const TROUBLE = new Set([
  'resource_ended',
  'resource_backing_off',
  'resource_refused',
  'pool_empty',
  'link_lost',
  'order_refused',
  'consul_lost',
]);
const GOOD = new Set([
  'resource_ready',
  'pool_ready',
  'mesh_ready',
  'manager_joined',
  'link_found',
  'consul_found',
  'rolling_done',
]);

export class EventList {
  /** Sequence number of the newest event shown. */
  lastSeq = 0;
  #list = byId('events');

  constructor() {
    byId('trouble-only').addEventListener('change', (event) => {
      this.#list.classList.toggle('trouble-only', /** @type {HTMLInputElement} */ (event.target).checked);
      this.#sayEmpty();
    });
  }

  /** @param {any[]} events oldest first @param {boolean} isMany whether to show the process of each event */
  add(events, isMany) {
    this.#list.classList.toggle('with-process', isMany);
    if (events.length === 0) return;
    for (const event of events) {
      if (event.seq <= this.lastSeq) continue;
      this.lastSeq = event.seq;
      this.#list.prepend(line(event));
    }
    while (this.#list.children.length > KEPT_MAX) this.#list.lastElementChild?.remove();
    this.#sayEmpty();
  }

  /** Starts over after a restart of the process, whose sequence numbers begin again. */
  restarted() {
    this.lastSeq = 0;
    const item = make('li', 'break', 'The process restarted.');
    this.#list.prepend(item);
    this.#sayEmpty();
  }

  #sayEmpty() {
    const isFiltered = this.#list.classList.contains('trouble-only');
    const shown = isFiltered ? this.#list.querySelectorAll('[data-tone="trouble"]').length : this.#list.children.length;
    this.#list.hidden = shown === 0;
    const empty = byId('no-events');
    empty.hidden = shown > 0;
    empty.textContent =
      isFiltered && this.#list.children.length > 0 ? 'No problems among the latest events.' : 'No events yet.';
  }
}

/** @param {any} event */
function line(event) {
  const item = make('li');
  item.dataset['tone'] = TROUBLE.has(event.kind) ? 'trouble' : GOOD.has(event.kind) ? 'good' : 'plain';
  const at = new Date(event.atMs);
  const time = make('time', '', at.toLocaleTimeString());
  time.dateTime = at.toISOString();
  time.title = at.toLocaleString();
  const text = make('span', 'what');
  text.append(make('b', '', event.subject), ' ', event.text);
  item.append(time, make('span', 'in-process', event.process), make('span', 'kind', words(event.kind)), text);
  if (event.lines.length > 0) {
    const details = make('details');
    const n = event.lines.length;
    details.append(
      make('summary', '', n === 1 ? 'last line of output' : `last ${n} lines of output`),
      make('pre', '', event.lines.join('\n')),
    );
    item.append(details);
  }
  return item;
}
