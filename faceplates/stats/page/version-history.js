// The changes of a route, the newest first. An operator can go back to any of them, which is a change by itself.

import { age, arrange, make, say } from './format.js';
import { ConfirmedButton, reasonOf } from './operator.js';
import { percentText } from './version-shares.js';

export class RouteHistory {
  #list;
  #operator;
  #refresh;
  /** By number of the change. @type {Map<number, ChangeRow>} */ #rows = new Map();
  #said = make('li', 'draft-note');

  /**
   * @param {HTMLElement} list
   * @param {import('./operator.js').Operator} operator
   * @param {() => Promise<void>} refresh
   */
  constructor(list, operator, refresh) {
    this.#list = list;
    this.#operator = operator;
    this.#refresh = refresh;
    this.#said.setAttribute('role', 'status');
  }

  reset() {
    this.#rows.clear();
    say(this.#said, '');
  }

  /** @param {any[]} history */
  update(history) {
    const oldest = history.at(-1);
    // What the first change has replaced is the route of the configuration.
    const all =
      oldest?.index === 1
        ? [...history, { index: 0, by: 'the configuration', atMs: 0, rules: 0, mirror: '' }]
        : history;
    const last = history[0]?.index;
    const rows = all.map((change, at) => {
      const row = this.#rows.get(change.index) ?? new ChangeRow((undone) => this.#undo(undone));
      this.#rows.set(change.index, row);
      const undone = at === 0 ? undefined : { change: Number(all[at - 1].index), index: Number(last) };
      row.update(change, this.#operator.isAllowed ? undone : undefined, at === 0);
      return row.element;
    });
    for (const index of this.#rows.keys()) if (!all.some((one) => one.index === index)) this.#rows.delete(index);
    arrange(this.#list, this.#said.textContent === '' ? rows : [this.#said, ...rows]);
  }

  /** @param {{ change: number, index: number }} undone */
  async #undo(undone) {
    say(this.#said, '');
    try {
      await this.#operator.ask({ do: 'undo', ...undone });
    } catch (error) {
      say(this.#said, reasonOf(error));
    }
    await this.#refresh();
  }
}

class ChangeRow {
  element = make('li');
  #what = make('b');
  #who = make('span', 'change-who');
  #now = make('span', 'state', 'in force');
  /** @type {{ change: number, index: number } | undefined} */ #undone;
  #button;

  /** @param {(undone: { change: number, index: number }) => Promise<void>} undo */
  constructor(undo) {
    this.#button = new ConfirmedButton('Go back to this', async () => {
      if (this.#undone !== undefined) await undo(this.#undone);
    });
    this.#now.dataset['state'] = 'ready';
    this.element.append(this.#what, this.#who, this.#now, this.#button.element);
  }

  /**
   * @param {any} change
   * @param {{ change: number, index: number } | undefined} undone
   * @param {boolean} isNow
   */
  update({ index, by, atMs, weights, rules, mirror }, undone, isNow) {
    this.#undone = undone;
    const parts = [sharesText(weights), rules === 0 ? '' : `${rules} ${rules === 1 ? 'rule' : 'rules'}`, mirror];
    const what = parts.filter((part) => part !== '').join(' · ');
    say(this.#what, what);
    const when = atMs === 0 ? '' : ` · ${age(Math.max(0, Date.now() - atMs))} ago`;
    say(this.#who, index === 0 ? by : `change ${index} by ${by}${when}`);
    this.#who.title = atMs === 0 ? '' : new Date(atMs).toLocaleString();
    this.#now.hidden = !isNow;
    this.#button.element.hidden = undone === undefined;
    this.#button.update(`Apply ${what}`);
  }
}

/** @param {Record<string, number> | undefined} weights */
function sharesText(weights) {
  if (weights === undefined) return 'Route of the configuration';
  const entries = Object.entries(weights);
  const total = entries.reduce((sum, [, weight]) => sum + weight, 0);
  if (total === 0) return 'Shares by number of copies';
  return entries
    .sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))
    .map(([version, weight]) => `${version} ${percentText((100 * weight) / total)}`)
    .join(', ');
}
