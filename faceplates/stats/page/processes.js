// The processes of the mesh: role, machine, state, and a link to the page of each. Shown only if there are several;
// for a single process the page head shows all of this.

import { arrange, byId, count, make, mark, plural, say } from './format.js';

/** Explanation of each state of a process except `up`. @type {Record<string, string>} */
const MEANINGS = {
  draining: 'It is shutting down, or an operator drained it.',
  unreachable: 'It is registered in Consul, but its link does not answer.',
};

export class ProcessList {
  /** @type {Map<string, ProcessCard>} */ #cards = new Map();
  #section = byId('processes-section');

  /** @param {any} overview */
  update({ processes, leader, term }) {
    this.#section.hidden = processes.length < 2;
    if (this.#section.hidden) return;
    say(byId('processes-count'), summary(processes));
    byId('no-leader').hidden = leader !== '';
    const keys = new Set();
    const cards = processes.map((/** @type {any} */ one) => {
      const key = JSON.stringify([one.name, one.machine, one.stats, one.stats === '' ? one.roles : '']);
      keys.add(key);
      const card = this.#cards.get(key) ?? new ProcessCard();
      this.#cards.set(key, card);
      card.update(one, term);
      return card.element;
    });
    for (const key of this.#cards.keys()) if (!keys.has(key)) this.#cards.delete(key);
    arrange(byId('processes'), cards);
  }
}

/** Returns a summary: `7 on 5 machines, 1 unreachable`. @param {any[]} processes */
export function summary(processes) {
  const machines = new Set(processes.map(({ machine }) => machine)).size;
  const states = ['unreachable', 'draining'].flatMap((state) => {
    const n = processes.filter((one) => one.state === state).length;
    return n === 0 ? [] : [`${count(n)} ${state}`];
  });
  const where = `${count(processes.length)} on ${plural(machines, 'machine')}`;
  return [where, ...(states.length === 0 ? ['all up'] : states)].join(', ');
}

class ProcessCard {
  element = make('li', 'process');
  #link = make('a', 'process-name');
  #name = make('b', 'process-name');
  #state = make('span', 'state');
  #roles = make('p', 'process-roles');
  #rolesText = make('span');
  #leads = make('span', 'leads');
  #place = make('p', 'process-place');
  #figures = make('p', 'process-figures');
  #meaning = make('p', 'process-meaning');

  constructor() {
    this.#link.rel = 'noreferrer';
    this.#roles.append(this.#rolesText, this.#leads);
  }

  /** @param {any} process @param {number} term of the leader */
  update({ name, roles, machine, stats, state, capacity, resources, isLeader, isThis }, term) {
    const page = isThis ? '' : pageOf(stats);
    say(this.#link, name);
    say(this.#name, name);
    if (page !== '') {
      mark(this.#link, 'href', page);
      mark(this.#link, 'title', `Open its page: ${page}`);
    }
    mark(this.element, 'data-state', state);
    mark(this.#state, 'data-state', state);
    say(this.#state, state);
    say(this.#rolesText, roles.join(', '));
    say(this.#leads, isLeader ? `★ leader, term ${term}` : '');
    this.#leads.hidden = !isLeader;
    say(this.#place, isThis ? `on ${machine} · this is its page` : `on ${machine}`);
    const isManager = roles.includes('manager');
    const source = state === 'unreachable' ? ' (from its Consul record)' : '';
    const have = `${plural(resources, 'resource')} alive${source}, capacity ${count(capacity)}`;
    say(this.#figures, isManager ? have : '');
    say(this.#meaning, MEANINGS[state] ?? '');
    const head = /** @type {Element} */ (this.element.firstElementChild ?? make('div', 'process-head'));
    arrange(head, [page === '' ? this.#name : this.#link, this.#state]);
    arrange(this.element, [
      head,
      this.#roles,
      this.#place,
      ...(isManager ? [this.#figures] : []),
      ...(MEANINGS[state] === undefined ? [] : [this.#meaning]),
    ]);
  }
}

/** Returns the URL that another process reports; '' unless it is an HTTP URL. @param {string} stats */
function pageOf(stats) {
  try {
    const url = new URL(stats);
    return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : '';
  } catch {
    return '';
  }
}
