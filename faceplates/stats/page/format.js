// Formats numbers, and contains the few functions that change the document. Text is always set as text, never as
// HTML.

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1, minimumFractionDigits: 1 });

/** @param {number} n */
export const count = (n) => whole.format(n);

/** Formats a rate, with one decimal if it is small. @param {number} n */
export const rate = (n) => (n > 0 && n < 100 ? tenths.format(n) : whole.format(n));

/** Formats a measured duration. @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return '–';
  if (ms < 10) return `${ms.toFixed(ms < 1 ? 2 : 1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** Formats an age. @param {number} ms */
export function age(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return `${m} min ${s % 60} s`;
  const h = Math.floor(m / 60);
  if (h < 24) return `${h} h ${m % 60} min`;
  return `${Math.floor(h / 24)} d ${h % 24} h`;
}

/** @param {number} n */
export function bytes(n) {
  if (n < 1024 * 1024) return `${whole.format(n / 1024)} KiB`;
  if (n < 1024 ** 3) return `${whole.format(n / 1024 ** 2)} MiB`;
  return `${tenths.format(n / 1024 ** 3)} GiB`;
}

/** @param {number} share 0..1 */
export const percent = (share) => `${whole.format(share * 100)} %`;

/** `1 resource`, `2 resources`. @param {number} n @param {string} noun */
export const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`;

/** `backing_off` as `backing off`. @param {string} name */
export const words = (name) => name.replaceAll('_', ' ');

/**
 * Creates an element with class and text.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {string} [className] @param {string} [text]
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, className = '', text = '') {
  const element = document.createElement(tag);
  if (className !== '') element.className = className;
  if (text !== '') element.textContent = text;
  return element;
}

/**
 * Sets text only if it differs, so that a selection or a screen reader is not disturbed every second.
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Like `say`, for an attribute. @param {Element} element @param {string} name @param {string} value */
export function mark(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Whether a counter rose recently. Old errors are shown as a number, recent ones in red. */
export class Rise {
  #last = Number.POSITIVE_INFINITY;
  #of = '';
  #atMs = Number.NEGATIVE_INFINITY;

  /** @param {number} n @param {string} [of] the parts that `n` sums up; a rise is ignored if they have changed */
  isRecent(n, of = '') {
    if (n > this.#last && of === this.#of) this.#atMs = performance.now();
    this.#of = of;
    this.#last = n;
    return performance.now() - this.#atMs < RECENT_MS;
  }
}

const RECENT_MS = 30_000;

/** Returns the managers whose counters a pool sums up; unreachable managers are not among them. @param {any} pool */
export function summandsOf(pool) {
  return [...new Set(pool.resources.map((/** @type {any} */ { manager }) => manager))].join('\n');
}

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`The page has no element #${id}`);
  return found;
}

/**
 * Brings the children of `parent` into the order of `wanted`. Moves only misplaced ones, so that focus is kept.
 * @param {Element} parent @param {readonly Element[]} wanted
 */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of Array.from(parent.children)) if (!keep.has(child)) child.remove();
  for (const [i, child] of wanted.entries()) {
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null);
  }
}
