// The shares of the versions as one bar. An operator drags the handle between two versions, or moves it with the arrow
// keys. The new shares are a draft until they are applied; the draft names the route that it was made from, so that
// the mesh refuses it when somebody else was faster.

import { arrange, count, make, mark, say } from './format.js';
import { reasonOf } from './operator.js';

/** Weights of a route as whole numbers. A draft with larger ones is rounded. */
const WEIGHT_MAX = 1_000_000;

export class SharesBar {
  #operator;
  #refresh;
  #bar = make('div', 'shares-bar');
  #list = make('ul', 'shares-list');
  #draftLine = make('p', 'draft');
  #apply = make('button', 'action main-action');
  #discard = make('button', 'action', 'Discard');
  #said = make('span', 'draft-note');
  /** @type {HTMLElement[]} */ #parts = [];
  /** @type {HTMLElement[]} */ #handles = [];
  /** @type {any[]} */ #versions = [];
  #index = 0;
  /** @type {{ index: number, weights: number[], names: string } | undefined} */ #draft;

  /**
   * @param {HTMLElement} place
   * @param {import('./operator.js').Operator} operator
   * @param {() => Promise<void>} refresh
   */
  constructor(place, operator, refresh) {
    this.#operator = operator;
    this.#refresh = refresh;
    this.#apply.type = 'button';
    this.#discard.type = 'button';
    this.#said.setAttribute('role', 'status');
    this.#draftLine.append(this.#apply, this.#discard, this.#said);
    place.append(this.#bar, this.#list, this.#draftLine);
    this.#apply.addEventListener('click', () => void this.#send());
    this.#discard.addEventListener('click', () => this.reset());
    operator.onChange(() => this.reset());
  }

  /** Forgets the draft. */
  reset() {
    this.#draft = undefined;
    say(this.#said, '');
    this.#show();
  }

  /** @param {any} view */
  update({ versions, index }) {
    this.#versions = versions;
    this.#index = index;
    const names = namesOf(versions);
    if (this.#draft !== undefined && this.#draft.names !== names) this.#draft = undefined;
    this.#parts = versions.map((_, /** @type {number} */ at) => this.#parts[at] ?? make('div', 'share-part'));
    const gaps = Math.max(0, versions.length - 1);
    this.#handles = Array.from({ length: gaps }, (_, at) => this.#handles[at] ?? this.#makeHandle(at));
    arrange(this.#bar, [...this.#parts, ...this.#handles]);
    arrange(
      this.#list,
      versions.map((_, /** @type {number} */ at) => this.#list.children[at] ?? listItem()),
    );
    this.#show();
  }

  #show() {
    const shares = this.#shares();
    for (const [at, { version, alive, wanted }] of this.#versions.entries()) {
      const share = shares[at] ?? 0;
      const part = /** @type {HTMLElement} */ (this.#parts[at]);
      mark(part, 'data-slot', String(at % SLOTS));
      part.style.inlineSize = `${share}%`;
      const width = (this.#bar.clientWidth * share) / 100;
      const short = width < SHORT_PX ? '' : percentText(share);
      say(part, width < LONG_PX ? short : `${version} · ${short}`);
      const item = /** @type {HTMLElement} */ (this.#list.children[at]);
      const [swatch, name, text] = /** @type {HTMLElement[]} */ ([...item.children]);
      mark(/** @type {Element} */ (swatch), 'data-slot', String(at % SLOTS));
      say(/** @type {Element} */ (name), version);
      const copies = `${count(alive)} of ${count(wanted)} copies alive`;
      const before = this.#versions[at].share;
      const was = this.#draft !== undefined && percentText(before) !== percentText(share);
      say(
        /** @type {Element} */ (text),
        `${percentText(share)}${was ? ` (now ${percentText(before)})` : ''} · ${copies}`,
      );
    }
    this.#bar.classList.toggle('is-draft', this.#draft !== undefined);
    this.#showHandles(shares);
    this.#showDraft(shares);
  }

  /** @param {number[]} shares */
  #showHandles(shares) {
    let edge = 0;
    for (const [at, handle] of this.#handles.entries()) {
      const left = shares[at] ?? 0;
      const right = shares[at + 1] ?? 0;
      const [one, other] = [this.#versions[at].version, this.#versions[at + 1].version];
      edge += left;
      handle.hidden = !this.#operator.isAllowed;
      handle.style.insetInlineStart = `${edge}%`;
      mark(handle, 'aria-label', `Share of ${one} against ${other}`);
      mark(handle, 'aria-valuemin', '0');
      mark(handle, 'aria-valuemax', String(rounded(left + right)));
      mark(handle, 'aria-valuenow', String(rounded(left)));
      mark(handle, 'aria-valuetext', `${one} ${percentText(left)}, ${other} ${percentText(right)}`);
    }
  }

  /** @param {number[]} shares */
  #showDraft(shares) {
    const draft = this.#draft;
    this.#apply.hidden = draft === undefined;
    this.#discard.hidden = draft === undefined;
    if (draft === undefined) return;
    const isOvertaken = draft.index !== this.#index;
    this.#apply.disabled = isOvertaken;
    say(this.#apply, `Apply ${shares.map((share) => String(rounded(share))).join(' / ')}`);
    if (isOvertaken)
      say(this.#said, `Somebody else has made change ${this.#index} meanwhile. Discard, and start from it.`);
  }

  #shares() {
    const { weights } = this.#draft ?? {};
    if (weights === undefined) return this.#versions.map(({ share }) => Number(share));
    const total = sum(weights);
    return weights.map((weight) => (100 * weight) / total);
  }

  /** @param {number} at */
  #makeHandle(at) {
    const handle = make('div', 'share-handle');
    handle.tabIndex = 0;
    handle.setAttribute('role', 'slider');
    handle.addEventListener('keydown', (event) => {
      const left = this.#shares()[at] ?? 0;
      const step = STEPS[event.key];
      if (step === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const by = step * (event.shiftKey ? 10 : 1);
      this.#move(at, Number.isFinite(by) ? (by > 0 ? Math.floor(left + 1e-9) : Math.ceil(left - 1e-9)) + by : by);
    });
    handle.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      handle.focus();
      handle.setPointerCapture(event.pointerId);
    });
    handle.addEventListener('pointermove', (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const { left, width } = this.#bar.getBoundingClientRect();
      const edge = (100 * (event.clientX - left)) / width;
      this.#move(at, Math.round(edge - sum(this.#shares().slice(0, at))));
    });
    return handle;
  }

  /** Gives the version left of a handle a share, in whole percent. @param {number} at @param {number} share */
  #move(at, share) {
    if (!this.#operator.isAllowed) return;
    const draft = this.#draft ?? {
      index: this.#index,
      weights: weightsOf(this.#versions),
      names: namesOf(this.#versions),
    };
    const weights = withShare(draft.weights, at, share);
    if (this.#draft === undefined) say(this.#said, '');
    this.#draft = { ...draft, weights };
    this.#show();
  }

  async #send() {
    const draft = this.#draft;
    if (draft === undefined) return;
    this.#apply.disabled = true;
    const weights = Object.fromEntries(this.#versions.map(({ version }, at) => [version, draft.weights[at] ?? 0]));
    try {
      await this.#operator.ask({ do: 'setWeights', weights, index: draft.index });
      await this.#refresh();
      this.#draft = undefined;
      say(this.#said, 'Applied.');
    } catch (error) {
      say(this.#said, reasonOf(error));
    }
    this.#apply.disabled = false;
    this.#show();
  }
}

/**
 * The same weights with another share of one version, in percent; the next one gives or gets the rest.
 * @param {number[]} weights
 * @param {number} at
 * @param {number} share
 */
function withShare(weights, at, share) {
  const total = sum(weights);
  const pair = 100 * ((weights[at] ?? 0) + (weights[at + 1] ?? 0));
  const left = Math.min(pair, Math.max(0, share === Number.POSITIVE_INFINITY ? pair : share * total));
  const scaled = weights.map((weight) => 100 * weight);
  scaled[at] = left;
  scaled[at + 1] = pair - left;
  const divisor = scaled.reduce(commonDivisor);
  const exact = scaled.map((weight) => weight / divisor);
  const most = Math.max(...exact);
  return most <= WEIGHT_MAX ? exact : exact.map((weight) => Math.ceil((weight * WEIGHT_MAX) / most));
}

/** The weights of the route. Without any, copies share the calls. @param {any[]} versions */
function weightsOf(versions) {
  const weights = versions.map(({ weight, alive }) => Number(weight ?? alive));
  return sum(weights) === 0 ? weights.map(() => 1) : weights;
}

/** @param {any[]} versions */
function namesOf(versions) {
  return versions.map(({ version }) => version).join('\n');
}

function listItem() {
  const item = make('li');
  item.append(make('span', 'swatch'), make('b'), make('span'));
  return item;
}

/** @param {number} a @param {number} b @returns {number} */
function commonDivisor(a, b) {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((all, one) => all + one, 0);
}

/** @param {number} share */
function rounded(share) {
  return Math.round(share * 100) / 100;
}

/** @param {number} share in percent */
export function percentText(share) {
  return `${rounded(share)} %`;
}

/** From these widths on, a part has room for its share, and for its version too. */
const SHORT_PX = 56;
const LONG_PX = 150;
/** Looks of the parts of the bar, in the style sheet. */
const SLOTS = 4;
/** @type {Readonly<Record<string, number>>} */
const STEPS = {
  ArrowRight: 1,
  ArrowUp: 1,
  ArrowLeft: -1,
  ArrowDown: -1,
  PageUp: 10,
  PageDown: -10,
  Home: Number.NEGATIVE_INFINITY,
  End: Number.POSITIVE_INFINITY,
};
