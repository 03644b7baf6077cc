// The comparison of two versions: the picture of their durations, their figures with the verdict on each, the methods,
// and what callers have reported.

import { arrange, count, duration, make, say } from './format.js';
import { VersionPicture } from './version-picture.js';

export class VersionFigures {
  #picture = new VersionPicture();
  #figures = new FigureTable(['Figure', 'first', 'second', 'Verdict']);
  #methods = new FigureTable(['Method', 'Calls', 'Errors', 'p50', 'p99', 'Different']);
  #outcomes = new FigureTable(['Reported by callers', 'first', 'second', 'Values', 'Verdict']);

  /** @param {HTMLElement} place */
  constructor(place) {
    place.append(this.#picture.element, this.#figures.element, this.#methods.element, this.#outcomes.element);
  }

  /** @param {any} comparison struct VersionComparison @param {string} method '' for all */
  update({ first, second, methods, outcomes }, method) {
    const shown = methods.find((/** @type {any} */ one) => one.method === method) ?? methods[0];
    this.#picture.update(shown.first, shown.second);
    this.#figures.update(['Figure', first, second, 'Verdict'], figureRows(shown));
    const own = methods.filter((/** @type {any} */ one) => one.method !== '');
    this.#methods.update(
      [`Method (${first} / ${second})`, 'Calls', 'Errors', 'p50', 'p99', 'Different'],
      own.length < 2 || method !== '' ? [] : own.map(methodRow),
    );
    this.#outcomes.update(
      ['Reported by callers', first, second, 'Values', 'Verdict'],
      method === '' ? outcomes.map(outcomeRow) : [],
    );
  }
}

/** A table that is updated in place, and hidden without rows. Columns with numbers are aligned at the end. */
export class FigureTable {
  element = make('div', 'scroll figure-scroll');
  #head = make('tr');
  #body = make('tbody');
  #texts;

  /**
   * @param {string[]} head
   * @param {number[]} [texts] positions of columns with text; by default the first and the last
   */
  constructor(head, texts = [0, head.length - 1]) {
    this.#texts = texts;
    const isVerdict = head.at(-1) === 'Verdict';
    this.element.classList.toggle('with-verdict', isVerdict);
    this.element.style.setProperty('--numbers', String(head.length - 2));
    // The style sheet lays narrow tables out as a grid, which would take their meaning from screen readers.
    const table = make('table', 'figures');
    table.setAttribute('role', 'table');
    const thead = make('thead');
    for (const group of [thead, this.#body]) group.setAttribute('role', 'rowgroup');
    this.#head.setAttribute('role', 'row');
    thead.append(this.#head);
    table.append(thead, this.#body);
    this.element.append(table);
    this.element.tabIndex = 0;
    this.element.setAttribute('role', 'group');
    this.element.setAttribute('aria-label', head[0] ?? '');
  }

  /** @param {string[]} head @param {{ cells: string[], tone?: string }[]} rows */
  update(head, rows) {
    this.element.hidden = rows.length === 0;
    this.#fill(this.#head, head, 'th');
    arrange(
      this.#body,
      rows.map((_, at) => this.#body.children[at] ?? make('tr')),
    );
    for (const [at, { cells, tone = '' }] of rows.entries()) {
      const row = /** @type {HTMLElement} */ (this.#body.children[at]);
      row.setAttribute('role', 'row');
      row.dataset['tone'] = tone;
      this.#fill(row, cells, 'td');
    }
  }

  /** @param {Element} row @param {string[]} cells @param {'td' | 'th'} tag */
  #fill(row, cells, tag) {
    arrange(
      row,
      cells.map((_, at) => row.children[at] ?? this.#cell(tag, at)),
    );
    for (const [at, text] of cells.entries()) say(/** @type {Element} */ (row.children[at]), text);
  }

  /** @param {'td' | 'th'} tag @param {number} at */
  #cell(tag, at) {
    const cell = make(at === 0 ? 'th' : tag, this.#texts.includes(at) ? '' : 'number');
    cell.setAttribute('role', tag === 'th' ? 'columnheader' : at === 0 ? 'rowheader' : 'cell');
    return cell;
  }
}

/** @param {any} shown struct MethodComparison */
function figureRows({ first, second, verdicts }) {
  /** @param {string} name @param {(figures: any) => string} text @param {string} [metric] */
  const row = (name, text, metric = name) => {
    const verdict = verdicts.find((/** @type {any} */ one) => one.metric === metric);
    const cells = [name, text(first), text(second), verdict?.text ?? ''];
    return { cells, tone: verdict?.isDifferent ? 'certain' : '' };
  };
  /** @param {string} name @param {string} key */
  const part = (name, key) =>
    first[key] + second[key] === 0 ? [] : [row(name, (figures) => count(figures[key]), 'none')];
  return [
    row('calls', ({ calls }) => count(calls)),
    row('errors', (figures) => ratio(errorsOf(figures), figures)),
    ...part('– failures', 'failures'),
    ...part('– timeouts', 'timeouts'),
    ...part('– refusals', 'refusals'),
    row('exceptions', (figures) => ratio(figures.exceptions, figures)),
    ...part('cancelled', 'cancelled'),
    row('p50', ({ p50Ms }) => duration(p50Ms)),
    row('p90', ({ p90Ms }) => duration(p90Ms)),
    row('p99', ({ p99Ms }) => duration(p99Ms)),
    row('queue p50', ({ queueP50Ms }) => duration(queueP50Ms)),
    row('queue p99', ({ queueP99Ms }) => duration(queueP99Ms)),
  ];
}

/** @param {any} compared struct MethodComparison */
function methodRow({ method, first, second, verdicts }) {
  const different = verdicts.filter((/** @type {any} */ one) => one.isDifferent);
  /** @param {(figures: any) => string} text */
  const pair = (text) => `${text(first)} / ${text(second)}`;
  const cells = [
    method,
    pair(({ calls }) => count(calls)),
    pair((figures) => ratio(errorsOf(figures), figures)),
    pair(({ p50Ms }) => duration(p50Ms)),
    pair(({ p99Ms }) => duration(p99Ms)),
    different.map((/** @type {any} */ { metric }) => metric).join(', ') || '–',
  ];
  return { cells, tone: different.length > 0 ? 'certain' : '' };
}

/** @param {any} compared struct OutcomeComparison */
function outcomeRow({ metric, firstCount, secondCount, verdict }) {
  /** @param {number | undefined} value */
  const number = (value) =>
    value === undefined ? '–' : value.toLocaleString(undefined, { maximumSignificantDigits: 4 });
  const cells = [
    metric,
    number(verdict.first),
    number(verdict.second),
    `${count(firstCount)} / ${count(secondCount)}`,
    verdict.text,
  ];
  return { cells, tone: verdict.isDifferent ? 'certain' : '' };
}

/** @param {any} figures */
function errorsOf({ failures, timeouts, refusals }) {
  return failures + timeouts + refusals;
}

/** Percentage of the calls whose caller has waited for the end. @param {number} hits @param {any} figures */
function ratio(hits, { calls, cancelled }) {
  if (calls === cancelled) return '–';
  const share = (100 * hits) / (calls - cancelled);
  return `${share.toLocaleString(undefined, { maximumSignificantDigits: 3 })} %`;
}
