// The shards of an index version on one manager as a picture: one cell a shard, in order of the names, wrapped to the
// width. Each state has a shape of its own. One path per state draws thousands of shards; the cell under the pointer
// or the cursor is named by the tooltip.

import { count, make, mark } from './format.js';
import { showTip } from './resources.js';

/**
 * Letter, name, meaning, and shape in a cell of 10 x 10.
 * @type {[letter: string, state: string, meaning: string, shape: string][]}
 */
const STATES = [
  ['s', 'serving', 'Open in every copy of the content service there.', 'M0 0h10v10h-10z'],
  ['f', 'fetching', 'Its files are on their way.', 'M0 6h10v4h-10z'],
  ['o', 'opening', 'The content service opens it.', 'M0 0h10v10h-10zM3 3v4h4v-4z'],
  [
    'b',
    'backing off',
    'The last try failed; the next one waits.',
    'M0 2l2 -2l3 3l3 -3l2 2l-3 3l3 3l-2 2l-3 -3l-3 3l-2 -2l3 -3z',
  ],
  ['l', 'leaving', 'The manager gives it up.', 'M0 0h10l-10 10z'],
  ['-', 'not here', 'The manager is not to hold it.', 'M4 4h2v2h-2z'],
];
const NAMES = new Map(STATES.map(([letter, name]) => [letter, name]));
const SVG = 'http://www.w3.org/2000/svg';
const GAP = 2;

/** Size of a cell in pixels: smaller for many shards. @param {number} shards */
const sizeFor = (shards) => (shards <= 120 ? 12 : shards <= 600 ? 9 : 6);

/** Reads `12s3f-`. @param {string} text @returns {string} one letter a shard */
export function lettersOf(text) {
  return text.replaceAll(/(\d+)(.)/g, (_, n, letter) => letter.repeat(Math.min(4_000, Number(n))));
}

/** `40 serving, 2 fetching`. @param {string} letters */
export function countsOf(letters) {
  const parts = STATES.filter(([letter]) => letter !== '-').flatMap(([letter, name]) => {
    const n = letters.split(letter).length - 1;
    return n === 0 ? [] : [`${count(n)} ${name}`];
  });
  return parts.length === 0 ? 'none' : parts.join(', ');
}

/** The legend of all pictures. */
export function gridLegend() {
  return STATES.map(([letter, name, meaning, shape]) => {
    const item = make('li');
    item.title = meaning;
    const svg = picture('0 0 10 10');
    svg.classList.add('cell');
    svg.setAttribute('aria-hidden', 'true');
    svg.append(path(letter, shape));
    item.append(svg, name);
    return item;
  });
}

export class ShardGrid {
  element = picture('0 0 10 10');
  /** @type {Map<string, SVGPathElement>} */ #paths = new Map();
  #cursor = document.createElementNS(SVG, 'rect');
  #letters = '';
  #drawn = '';
  #columns = 1;
  #size = 12;
  #at = -1;
  #label = '';
  /** @type {(place: number) => string} */ #nameOf = String;

  constructor() {
    const { element } = this;
    element.classList.add('shards');
    element.setAttribute('tabindex', '0');
    element.setAttribute('data-tip', '');
    for (const [letter] of STATES) {
      const one = path(letter, '');
      this.#paths.set(letter, one);
      element.append(one);
    }
    this.#cursor.classList.add('cursor');
    element.append(this.#cursor);
    element.addEventListener('pointermove', (event) => {
      const box = element.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left) / (this.#size + GAP));
      const row = Math.floor((event.clientY - box.top) / (this.#size + GAP));
      this.#point(column < this.#columns ? row * this.#columns + column : -1);
      this.#tell();
    });
    element.addEventListener('pointerleave', () => this.#point(-1));
    element.addEventListener('blur', () => this.#point(-1));
    element.addEventListener('keydown', (event) => this.#walk(event));
  }

  /**
   * @param {string} label what it shows
   * @param {string} letters
   * @param {(place: number) => string} nameOf
   * @param {number} width in pixels that it may fill
   */
  update(label, letters, nameOf, width) {
    this.#label = `${label}: ${countsOf(letters)}`;
    this.#letters = letters;
    this.#nameOf = nameOf;
    this.#size = sizeFor(letters.length);
    const step = this.#size + GAP;
    this.#columns = Math.max(1, Math.min(letters.length, Math.floor((width + GAP) / step)));
    const drawn = `${this.#columns} ${letters}`;
    if (drawn !== this.#drawn) this.#draw(step);
    this.#drawn = drawn;
    this.#point(this.#at < letters.length ? this.#at : -1);
  }

  /** @param {number} step */
  #draw(step) {
    const rows = Math.max(1, Math.ceil(this.#letters.length / this.#columns));
    const [width, height] = [this.#columns * step - GAP, rows * step - GAP];
    mark(this.element, 'viewBox', `0 0 ${width} ${height}`);
    mark(this.element, 'width', String(width));
    mark(this.element, 'height', String(height));
    const scale = this.#size / 10;
    for (const [letter, , , shape] of STATES) {
      const scaled = shape.replaceAll(/-?\d+/g, (n) => String(Math.round(Number(n) * scale * 10) / 10));
      let all = '';
      for (let at = this.#letters.indexOf(letter); at !== -1; at = this.#letters.indexOf(letter, at + 1)) {
        all += moved(scaled, (at % this.#columns) * step, Math.floor(at / this.#columns) * step);
      }
      const one = this.#paths.get(letter);
      if (one !== undefined) mark(one, 'd', all);
    }
  }

  /** Names a cell, or the whole picture. @param {number} at */
  #point(at) {
    const letter = this.#letters[at];
    this.#at = letter === undefined ? -1 : at;
    const step = this.#size + GAP;
    this.#cursor.setAttribute('visibility', letter === undefined ? 'hidden' : 'visible');
    mark(this.#cursor, 'x', String((at % this.#columns) * step - 1));
    mark(this.#cursor, 'y', String(Math.floor(at / this.#columns) * step - 1));
    mark(this.#cursor, 'width', String(this.#size + 2));
    mark(this.#cursor, 'height', String(this.#size + 2));
    const text = letter === undefined ? this.#label : `${this.#nameOf(at)}: ${NAMES.get(letter) ?? letter}`;
    mark(this.element, 'aria-label', text);
  }

  /** Moves the cursor with the arrow keys. @param {KeyboardEvent} event */
  #walk(event) {
    const last = this.#letters.length - 1;
    const to = {
      ArrowRight: this.#at + 1,
      ArrowLeft: this.#at - 1,
      ArrowDown: this.#at < 0 ? 0 : this.#at + this.#columns,
      ArrowUp: this.#at - this.#columns,
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#point(Math.max(0, Math.min(last, to)));
    this.#tell();
  }

  #tell() {
    showTip(this.element, this.#at === -1 ? this.element : this.#cursor);
  }
}

/** Moves the start of each part of a path. @param {string} shape @param {number} x @param {number} y */
function moved(shape, x, y) {
  return shape.replaceAll(/M(-?[\d.]+) (-?[\d.]+)/g, (_, a, b) => `M${Number(a) + x} ${Number(b) + y}`);
}

/** @param {string} viewBox */
function picture(viewBox) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', viewBox);
  svg.setAttribute('role', 'img');
  return svg;
}

/** @param {string} letter @param {string} shape */
function path(letter, shape) {
  const one = document.createElementNS(SVG, 'path');
  one.setAttribute('data-shard', letter);
  one.setAttribute('fill-rule', 'evenodd');
  one.setAttribute('d', shape);
  return one;
}
