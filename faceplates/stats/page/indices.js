// The indices: one card per version with its state, figures and conditions, and one row per manager with a picture of
// its shards and a bar while it fetches. Hidden in a mesh without indices.

import { arrange, byId, bytes, count, make, mark, percent, plural, say, words } from './format.js';
import { ShardGrid, countsOf, gridLegend, lettersOf } from './shard-grid.js';

/** Conditions that a card shows before "and 3 more". */
const CONDITIONS_MAX = 8;

export class IndexList {
  /** @type {Map<string, IndexCard>} */ #cards = new Map();
  #section = byId('indices-section');

  constructor() {
    byId('shard-legend').append(...gridLegend());
  }

  /** @param {any} indices */
  update({ versions, requests, missing }) {
    this.#section.hidden = versions.length === 0;
    if (this.#section.hidden) return;
    const names = new Set(versions.map((/** @type {any} */ { name }) => name)).size;
    const incomplete = versions.filter((/** @type {any} */ { state }) => state !== 'complete').length;
    say(
      byId('indices-count'),
      `${count(names)} in ${plural(versions.length, 'version')}, ${incomplete === 0 ? 'all complete' : `${count(incomplete)} not complete`}`,
    );
    const lacks = Object.entries(missing)
      .filter(([, n]) => Number(n) > 0)
      .map(
        ([lack, n]) =>
          `${count(Number(n))} ${words(lack.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`))}`,
      );
    say(
      byId('gathered'),
      `Requests to managers from here: ${count(requests.first + requests.retry + requests.hedge)}, ` +
        `${count(requests.retry)} retried, ${count(requests.hedge)} hedged. ` +
        `Shards missing in answers: ${lacks.length === 0 ? 'none' : lacks.join(', ')}.`,
    );
    const cards = versions.map((/** @type {any} */ one) => {
      const key = `${one.name}@${one.version}`;
      const card = this.#cards.get(key) ?? new IndexCard(key);
      this.#cards.set(key, card);
      return card;
    });
    for (const [key, card] of this.#cards) if (!cards.includes(card)) this.#cards.delete(key);
    arrange(
      byId('indices'),
      cards.map((/** @type {IndexCard} */ card) => card.element),
    );
    // The pictures fill the width that the cards have in the document.
    for (const [i, card] of cards.entries()) card.update(versions[i]);
  }
}

class IndexCard {
  element = make('li', 'index');
  #id;
  #version = make('span', 'version');
  #name = make('b');
  #state = make('span', 'state');
  #figures = make('p', 'index-figures');
  #calls = make('p', 'index-figures');
  #conditions = make('ul', 'conditions');
  #managers = make('ul', 'index-managers');
  #cut = make('p', 'index-figures', 'Too many shards to show them all here: see katamari index status.');
  /** @type {Map<string, ManagerRow>} */ #rows = new Map();
  /** @type {string[]} */ #shards = [];
  #hasAsked = false;

  /** @param {string} id */
  constructor(id) {
    this.#id = id;
    const head = make('h3', 'index-head');
    const name = make('span', 'index-name');
    name.append(this.#name, ' ', this.#version);
    head.append(name, this.#state);
    this.element.append(head, this.#figures, this.#calls, this.#conditions, this.#managers, this.#cut);
  }

  /** @param {any} index */
  update(index) {
    const { name, version, state, served, shards, replicas, share, entries, contentService, conditions } = index;
    say(this.#name, name);
    say(this.#version, version);
    say(this.#state, state);
    mark(this.#state, 'data-state', state);
    mark(this.element, 'data-state', state);
    say(
      this.#figures,
      [
        `${count(served)} of ${plural(shards, 'shard')} served`,
        `${plural(replicas, 'replica')} wanted`,
        `${percent(share)} of calls`,
        `${count(entries)} entries`,
        bytes(index.bytes),
        contentService,
      ].join(' · '),
    );
    say(this.#calls, callsText(index.calls));
    const shown = conditions.slice(0, CONDITIONS_MAX);
    const more = conditions.length - shown.length;
    const texts = more > 0 ? [...shown, `and ${count(more)} more`] : shown;
    arrange(
      this.#conditions,
      texts.map((/** @type {string} */ _, /** @type {number} */ i) => this.#conditions.children[i] ?? make('li')),
    );
    for (const [i, text] of texts.entries()) say(/** @type {Element} */ (this.#conditions.children[i]), text);
    this.#conditions.hidden = texts.length === 0;
    this.#cut.hidden = index.managers.length > 0 || served === 0;
    void this.#ask();
    const rows = index.managers.map((/** @type {any} */ one) => {
      const row = this.#rows.get(one.name) ?? new ManagerRow();
      this.#rows.set(one.name, row);
      return row;
    });
    for (const [key, row] of this.#rows) if (!rows.includes(row)) this.#rows.delete(key);
    arrange(
      this.#managers,
      rows.map((/** @type {ManagerRow} */ row) => row.element),
    );
    for (const [i, row] of rows.entries())
      row.update(this.#id, index.managers[i], (place) => this.#shards[place] ?? `shard ${place}`);
  }

  /** Names of shards never change, so they are read once. */
  async #ask() {
    if (this.#hasAsked) return;
    this.#hasAsked = true;
    try {
      const response = await fetch(`indices/${encodeURIComponent(this.#id)}/shards`);
      if (!response.ok) throw new Error(`status ${response.status}`);
      this.#shards = await response.json();
    } catch {
      this.#hasAsked = false;
    }
  }
}

class ManagerRow {
  element = make('li', 'index-manager');
  #name = make('b');
  #counts = make('span', 'index-counts');
  #progress = make('progress');
  #bytes = make('span', 'index-counts');
  #grid = new ShardGrid();

  constructor() {
    const line = make('p', 'line');
    line.append(this.#name, this.#counts, this.#progress, this.#bytes);
    this.element.append(line, this.#grid.element);
  }

  /** @param {string} id @param {any} manager @param {(place: number) => string} nameOf */
  update(id, { name, isReachable, states, bytesDone, bytesWanted }, nameOf) {
    const letters = lettersOf(states);
    say(this.#name, name);
    say(this.#counts, `${countsOf(letters)}${isReachable ? '' : ' · does not answer; this is what it said last'}`);
    this.element.classList.toggle('silent', !isReachable);
    const isFetching = bytesDone < bytesWanted;
    this.#progress.hidden = !isFetching;
    this.#bytes.hidden = !isFetching;
    if (isFetching) {
      this.#progress.max = bytesWanted;
      this.#progress.value = bytesDone;
      const text = `${bytes(bytesDone)} of ${bytes(bytesWanted)} fetched`;
      mark(this.#progress, 'aria-label', `${id} on ${name}: ${text}`);
      say(this.#bytes, text);
    }
    this.#grid.update(`${id} on ${name}`, letters, nameOf, this.element.clientWidth);
  }
}

/** @param {Record<string, number>} calls by result */
function callsText({ whole = 0, partial = 0, exception = 0, incomplete = 0, failed = 0 }) {
  const all = whole + partial + exception + incomplete + failed;
  if (all === 0) return 'No calls from here yet';
  const parts = Object.entries({ partial, incomplete, failed }).filter(([, n]) => n > 0);
  const trouble = parts.map(([name, n]) => `${count(n)} ${name}`).join(', ');
  return `${plural(all, 'call')} from here, ${trouble === '' ? 'all whole' : trouble}`;
}
