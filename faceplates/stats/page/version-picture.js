// The durations of the calls of two versions in one picture: each as a curve over a logarithmic scale, with marks at
// p50 and p99. The curves are shares of the calls of their version, so versions with few and many calls compare. They
// differ by dashes and the shape of their marks, not by color alone.

import { count, duration, make, mark } from './format.js';

const HEIGHT = 240;
/** Room for the texts of the marks. */
const TOP = 46;
const BOTTOM = 26;
const SIDE = 92;
/** Buckets for each doubling, of the histogram and of the picture. */
const FINE = 64;
const COARSE = 12;
const LEAST_MS = 0.001;
/** The picture shows at least this many doublings. */
const DOUBLINGS_MIN = 2.5;

export class VersionPicture {
  element = make('figure', 'picture');
  #legend = make('figcaption', 'picture-legend');
  #svg = svg('svg', { height: String(HEIGHT), role: 'img' });
  /** @type {any[]} */ #sides = [];
  #resize = new ResizeObserver(() => this.#draw());

  constructor() {
    this.element.append(this.#legend, this.#svg);
    this.#resize.observe(this.element);
  }

  /** @param {any} first struct VersionFigures @param {any} second */
  update(first, second) {
    this.#sides = [first, second];
    this.#legend.replaceChildren(
      ...this.#sides.map((figures, at) => {
        const item = make('span', 'picture-version');
        const line = svg('svg', { width: '30', height: '12', 'aria-hidden': 'true' });
        line.append(svg('line', { class: `curve side-${at}`, x1: '1', x2: '29', y1: '6', y2: '6' }), markOf(at, 15, 6));
        item.append(line, ` ${figures.version}, ${count(figures.calls)} calls`);
        return item;
      }),
      make('small', '', 'share of the calls of each version by duration, logarithmic'),
    );
    this.#draw();
  }

  #draw() {
    const width = this.#svg.clientWidth || this.element.clientWidth;
    if (width <= 2 * SIDE || this.#sides.length === 0) return;
    mark(this.#svg, 'viewBox', `0 0 ${width} ${HEIGHT}`);
    const curves = this.#sides.map(({ durations = [] }) => densityOf(durations));
    const range = rangeOf(curves);
    mark(this.#svg, 'aria-label', `Durations: ${this.#sides.map(textOf).join('; ')}`);
    if (range === undefined) {
      const none = svg('text', { x: String(width / 2), y: String(HEIGHT / 2), class: 'tick', 'text-anchor': 'middle' });
      none.textContent = 'No calls yet';
      this.#svg.replaceChildren(none);
      return;
    }
    /** @param {number} at position of a coarse bucket */
    const x = (at) => SIDE + ((at - range.low) / (range.high - range.low)) * (width - 2 * SIDE);
    /** @param {number} ms */
    const xOfMs = (ms) => x(Math.log2(ms / LEAST_MS) * COARSE);
    const most = Math.max(...curves.flatMap((curve) => [...curve.values()]));
    /** @param {number} density */
    const y = (density) => HEIGHT - BOTTOM - (density / most) * (HEIGHT - BOTTOM - TOP - 8);
    this.#svg.replaceChildren(
      ...ticks(xOfMs, width),
      ...curves.flatMap((curve, at) => shape(curve, range, at, x, y)),
      // Texts are above the lines.
      ...this.#sides.flatMap((figures, at) => marks(figures, at, xOfMs, width)).sort(byLayer),
    );
  }
}

/** Shares of the calls by coarse bucket, smoothed over those beside them. @param {number[]} sparse */
function densityOf(sparse) {
  const counts = new Map();
  let bucket = -1;
  let all = 0;
  for (let at = 0; at < sparse.length; at += 2) {
    bucket += sparse[at] ?? 0;
    const n = sparse[at + 1] ?? 0;
    all += n;
    // The values of bucket n lie below its bound.
    const coarse = Math.floor(((bucket - 0.5) * COARSE) / FINE);
    for (const [step, weight] of SMOOTH) counts.set(coarse + step, (counts.get(coarse + step) ?? 0) + n * weight);
  }
  return new Map([...counts].sort(([a], [b]) => a - b).map(([at, n]) => [at, n / all]));
}

/** @type {readonly [number, number][]} */
const SMOOTH = [
  [-1, 0.25],
  [0, 0.5],
  [1, 0.25],
];

/** The range of buckets that holds nearly all calls of both. @param {Map<number, number>[]} curves */
function rangeOf(curves) {
  const ends = curves.flatMap((curve) => {
    let below = 0;
    return [...curve].flatMap(([at, share]) => {
      below += share;
      return below - share <= 0.999 && below >= 0.001 ? [at, at + 1] : [];
    });
  });
  if (ends.length === 0) return undefined;
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const lacking = Math.max(0, DOUBLINGS_MIN * COARSE - (high - low));
  return { low: low - 1 - lacking / 2, high: high + 1 + lacking / 2 };
}

/** A curve as a line and the area below it.
 * @param {Map<number, number>} curve @param {{ low: number, high: number }} range @param {number} side
 * @param {(at: number) => number} x @param {(density: number) => number} y */
function shape(curve, { low, high }, side, x, y) {
  if (curve.size === 0) return [];
  const points = [];
  for (let at = Math.floor(low); at <= Math.ceil(high); at++)
    points.push(`${x(at + 0.5).toFixed(1)},${y(curve.get(at) ?? 0).toFixed(1)}`);
  const [first, last] = [x(Math.floor(low) + 0.5), x(Math.ceil(high) + 0.5)];
  const line = `M${points.join('L')}`;
  return [
    svg('path', { class: `area side-${side}`, d: `${line}L${last?.toFixed(1)},${y(0)}L${first?.toFixed(1)},${y(0)}Z` }),
    svg('path', { class: `curve side-${side}`, d: line }),
  ];
}

/**
 * Lines at p50 and p99.
 * @param {any} figures
 * @param {number} side
 * @param {(ms: number) => number} x
 * @param {number} width
 */
function marks({ p50Ms, p99Ms }, side, x, width) {
  const lane = 14 + side * 18;
  return [
    { name: 'p50', ms: p50Ms, anchor: 'end' },
    { name: 'p99', ms: p99Ms, anchor: 'start' },
  ].flatMap(({ name, ms, anchor }) => {
    if (ms === undefined) return [];
    const at = Math.min(width - SIDE, Math.max(SIDE, x(ms)));
    const line = { x1: String(at), x2: String(at), y1: String(lane), y2: String(HEIGHT - BOTTOM) };
    const text = svg('text', {
      class: `mark-text side-${side}`,
      x: String(at + (anchor === 'end' ? -9 : 9)),
      y: String(lane + 4),
      'text-anchor': anchor,
    });
    text.textContent = `${name} ${duration(ms)}`;
    return [svg('line', { class: `mark-line side-${side}`, ...line }), markOf(side, at, lane), text];
  });
}

/**
 * @param {SVGElement} one
 * @param {SVGElement} other
 */
function byLayer(one, other) {
  return Number(one.tagName === 'text') - Number(other.tagName === 'text');
}

/**
 * A circle for the first version, a square for the second.
 * @param {number} side
 * @param {number} x
 * @param {number} y
 */
function markOf(side, x, y) {
  return side === 0
    ? svg('circle', { class: 'mark side-0', cx: String(x), cy: String(y), r: '4.5' })
    : svg('rect', { class: 'mark side-1', x: String(x - 4), y: String(y - 4), width: '8', height: '8' });
}

/** @param {(ms: number) => number} x @param {number} width */
function ticks(x, width) {
  const base = svg('line', {
    class: 'axis',
    x1: '0',
    x2: String(width),
    y1: String(HEIGHT - BOTTOM),
    y2: String(HEIGHT - BOTTOM),
  });
  /** @type {SVGElement[]} */
  const elements = [base];
  let last = Number.NEGATIVE_INFINITY;
  for (const ms of TICKS_MS) {
    const at = x(ms);
    if (at < 24 || at > width - 24 || at - last < 58) continue;
    last = at;
    const grid = { x1: String(at), x2: String(at), y1: String(TOP), y2: String(HEIGHT - BOTTOM) };
    const text = svg('text', { class: 'tick', x: String(at), y: String(HEIGHT - 8), 'text-anchor': 'middle' });
    text.textContent = ms < 1 ? `${ms * 1000} µs` : ms < 1000 ? `${ms} ms` : `${ms / 1000} s`;
    elements.push(svg('line', { class: 'grid', ...grid }), text);
  }
  return elements;
}

const TICKS_MS = [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) =>
  [1, 2, 5].map((n) => Number((n * 10 ** power).toPrecision(1))),
);

/** @param {any} figures */
function textOf({ version, calls, p50Ms, p90Ms, p99Ms }) {
  return `${version} with ${count(calls)} calls, p50 ${duration(p50Ms)}, p90 ${duration(p90Ms)}, p99 ${duration(p99Ms)}`;
}

/** @param {string} tag @param {Record<string, string>} attributes */
function svg(tag, attributes) {
  const element = /** @type {SVGElement} */ (document.createElementNS('http://www.w3.org/2000/svg', tag));
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
