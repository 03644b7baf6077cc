// What the mirror of a service has found: counts by method and the paths that differ. The calls themselves hold data
// of users, so they are shown only to an operator, who asks for them with the admin token.

import { count, make, say } from './format.js';
import { reasonOf } from './operator.js';
import { FigureTable } from './version-figures.js';

const COUNTS = ['Method', 'Version', 'Equal', 'Different', 'Failed', 'Skipped'];
const PATHS = ['Path that differs', 'Method', 'Calls', 'Of those compared'];

export class MirrorFindings {
  #operator;
  #counts = new FigureTable(COUNTS, [0, 1]);
  #paths = new FigureTable(PATHS, [0, 1]);
  #ask = make('button', 'action', 'Show the latest calls that differ');
  #said = make('span', 'draft-note');
  #calls = make('ol', 'differences');
  #line = make('p', 'draft');

  /** @param {HTMLElement} place @param {import('./operator.js').Operator} operator */
  constructor(place, operator) {
    this.#operator = operator;
    this.#ask.type = 'button';
    this.#said.setAttribute('role', 'status');
    this.#calls.tabIndex = 0;
    this.#calls.setAttribute('aria-label', 'Latest calls that differ');
    this.#line.append(this.#ask, this.#said);
    place.append(this.#counts.element, this.#paths.element, this.#line, this.#calls);
    this.#ask.addEventListener('click', () => void this.#show());
    operator.onChange(() => this.reset());
  }

  /** Forgets the calls that were shown. */
  reset() {
    this.#calls.replaceChildren();
    say(this.#said, '');
  }

  /** @param {any} mirror */
  update({ counts, paths }) {
    this.#counts.update(
      COUNTS,
      counts.map((/** @type {any} */ one) => ({
        cells: [one.method, one.version, ...[one.equal, one.different, one.failed, one.skipped].map(count)],
        tone: one.different > 0 ? 'certain' : '',
      })),
    );
    /** @param {any} path */
    const comparedOf = ({ method, version }) => {
      const found = counts.find((/** @type {any} */ one) => one.method === method && one.version === version);
      return found === undefined ? 0 : found.equal + found.different;
    };
    this.#paths.update(
      PATHS,
      paths.map((/** @type {any} */ one) => ({
        cells: [one.path, one.method, count(one.calls), count(comparedOf(one))],
      })),
    );
    this.#ask.disabled = !this.#operator.isAllowed;
    if (!this.#operator.isAllowed) say(this.#said, 'They hold data of calls, so this needs the admin token.');
    this.#line.hidden = paths.length === 0;
  }

  async #show() {
    say(this.#said, '');
    try {
      const found = await this.#operator.ask({ do: 'differences' });
      this.#calls.replaceChildren(...found.map(difference));
      if (found.length === 0) say(this.#said, 'No process has kept such a call.');
    } catch (error) {
      say(this.#said, reasonOf(error));
    }
  }
}

/** @param {any} found struct MirrorDifference */
function difference({ atMs, method, parameters, version, answer, mirrorVersion, mirrorAnswer, places }) {
  const item = make('li');
  const head = make('p');
  head.append(make('b', '', method), ` at ${new Date(atMs).toLocaleString()}`);
  const lines = places.map((/** @type {any} */ place) => {
    const text = `${place.at}: ${place.answer || 'nothing'}, then ${place.mirrorAnswer || 'nothing'}`;
    return make('li', '', text);
  });
  const list = make('ul', 'conditions');
  list.append(...lines);
  item.append(head, list, make('pre', '', `${parameters}\n${version}: ${answer}\n${mirrorVersion}: ${mirrorAnswer}`));
  return item;
}
