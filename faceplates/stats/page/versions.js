// The view of the versions of one service, side by side. It reads /versions/SERVICE every two seconds while it is open
// and visible, and shows what it gets. Everything that an operator changes goes through operator.js.

import { age, byId, make, say } from './format.js';
import { Operator, reasonOf } from './operator.js';
import { VersionFigures } from './version-figures.js';
import { RouteHistory } from './version-history.js';
import { MirrorFindings } from './version-mirror.js';
import { RolloutProgress } from './version-rollout.js';
import { SharesBar } from './version-shares.js';

const INTERVAL_MS = 2_000;
const TIMEOUT_MS = 20_000;

export class VersionsView {
  #operator = new Operator();
  #shares = new SharesBar(byId('shares'), this.#operator, () => this.#refresh());
  #figures = new VersionFigures(byId('compared'));
  #mirror = new MirrorFindings(byId('mirror'), this.#operator);
  #history = new RouteHistory(byId('history'), this.#operator, () => this.#refresh());
  #rollout = new RolloutProgress(byId('rollout'), this.#operator, () => this.#refresh());
  #picks = new Picks(byId('compared-picks'));
  #service = '';
  #pair = ['', ''];
  #method = '';
  #isOpen = false;
  /** Rises with each opening; what was asked for before is not shown. */
  #opening = 0;
  /** @type {any} */ #view;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  constructor() {
    byId('operator').append(this.#operator.element);
    this.#operator.onChange(() => this.#show());
    this.#picks.onPair = (first, second) => {
      location.hash = `#versions/${[this.#service, first, second].map(encodeURIComponent).join('/')}`;
    };
    this.#picks.onMethod = (method) => {
      this.#method = method;
      void this.#refresh();
    };
    document.addEventListener('visibilitychange', () => {
      if (this.#isOpen && document.visibilityState === 'visible') void this.#refresh();
    });
  }

  /** @param {string} [service] @param {string} [first] @param {string} [second] */
  open(service = '', first = '', second = '') {
    if (service !== this.#service) {
      byId('versions-found').hidden = true;
      byId('versions-trouble').hidden = true;
      this.#method = '';
      this.#view = undefined;
      this.#shares.reset();
      this.#mirror.reset();
      this.#rollout.reset();
      this.#history.reset();
    }
    this.#service = service;
    this.#pair = [first, second];
    this.#operator.serve(service);
    say(byId('versions-service'), service);
    this.#isOpen = true;
    this.#opening++;
    byId('versions-title').focus({ preventScroll: true });
    scrollTo(0, 0);
    void this.#refresh();
  }

  close() {
    this.#isOpen = false;
    this.#opening++;
    clearTimeout(this.#timer);
  }

  async #refresh() {
    clearTimeout(this.#timer);
    const opening = this.#opening;
    const trouble = byId('versions-trouble');
    try {
      const view = await this.#read();
      if (opening !== this.#opening) return;
      this.#view = view;
      trouble.hidden = true;
      this.#show();
    } catch (error) {
      if (opening !== this.#opening) return;
      say(trouble, reasonOf(error));
      trouble.hidden = false;
    }
    clearTimeout(this.#timer);
    if (document.visibilityState === 'visible') this.#timer = setTimeout(() => void this.#refresh(), INTERVAL_MS);
  }

  /** @returns {Promise<any>} */
  async #read() {
    const [first = '', second = ''] = this.#pair;
    const query = new URLSearchParams({ first, second, method: this.#method });
    const what = `versions/${encodeURIComponent(this.#service)}?${query}`;
    const response = await fetch(what, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: 'no-store' });
    if (response.ok) return response.json();
    throw new Error((await response.text()).trim());
  }

  #show() {
    const view = this.#view;
    if (view === undefined) return;
    byId('versions-found').hidden = false;
    this.#shares.update(view);
    const weighted = view.versions.some((/** @type {any} */ { weight }) => weight !== undefined);
    say(
      byId('shares-of'),
      weighted ? 'by the weights of the route' : 'by number of copies, as the route has no weights',
    );
    say(byId('shares-route'), routeText(view));
    const { rollout, whyNoRollout, comparison, whyNotCompared } = view;
    byId('rollout-section').hidden = rollout === undefined && whyNoRollout === '';
    byId('rollout').hidden = rollout === undefined;
    say(byId('rollout-of'), rollout === undefined ? whyNoRollout : rolloutText(rollout));
    if (rollout !== undefined) this.#rollout.update(rollout);
    byId('not-compared').hidden = comparison !== undefined;
    byId('compared').hidden = comparison === undefined;
    say(byId('not-compared'), comparison === undefined ? `${whyNotCompared}.` : '');
    say(byId('compared-of'), comparison === undefined ? '' : sinceText(comparison));
    this.#picks.update(view, this.#method);
    if (comparison !== undefined) this.#figures.update(comparison, this.#method);
    const { counts, paths } = view.mirror;
    byId('mirror-section').hidden = counts.length + paths.length === 0;
    this.#mirror.update(view.mirror);
    this.#history.update(view.history);
    const noHistory = view.whyNoHistory || (view.history.length === 0 ? 'The route was never changed.' : '');
    say(byId('no-history'), noHistory);
    byId('no-history').hidden = noHistory === '';
    byId('history').hidden = view.history.length === 0;
  }
}

/** Choices of what is compared: two versions of more than two, and a method. */
class Picks {
  #first = new Pick('compare');
  #second = new Pick('with');
  #method = new Pick('method');
  /** @type {(first: string, second: string) => void} */ onPair = () => undefined;
  /** @type {(method: string) => void} */ onMethod = () => undefined;

  /** @param {HTMLElement} place */
  constructor(place) {
    place.append(this.#first.element, this.#second.element, this.#method.element);
    for (const pick of [this.#first, this.#second])
      pick.onChange = () => this.onPair(this.#first.value, this.#second.value);
    this.#method.onChange = () => this.onMethod(this.#method.value);
  }

  /** @param {any} view @param {string} method */
  update({ versions, comparison }, method) {
    const names = versions.map((/** @type {any} */ { version }) => version);
    const isChoice = comparison !== undefined && names.length > 2;
    const [first = '', second = ''] = [comparison?.first, comparison?.second];
    this.#first.update(isChoice ? names.filter((/** @type {string} */ name) => name !== second) : [], first);
    this.#second.update(isChoice ? names.filter((/** @type {string} */ name) => name !== first) : [], second);
    const methods = (comparison?.methods ?? []).map((/** @type {any} */ one) => one.method);
    this.#method.update(methods.length > 2 ? methods : [], method);
  }
}

class Pick {
  element = make('label', 'pick');
  #select = make('select');
  /** @type {() => void} */ onChange = () => undefined;

  /** @param {string} label */
  constructor(label) {
    this.element.append(`${label} `, this.#select);
    this.#select.addEventListener('change', () => this.onChange());
  }

  get value() {
    return this.#select.value;
  }

  /** Without options, it is hidden. @param {string[]} options @param {string} value */
  update(options, value) {
    this.element.hidden = options.length === 0;
    const have = [...this.#select.options].map((option) => option.value);
    if (have.join('\n') !== options.join('\n'))
      this.#select.replaceChildren(...options.map((name) => new Option(name === '' ? 'all methods' : name, name)));
    if (this.#select.value !== value) this.#select.value = value;
  }
}

/** @param {any} view */
function routeText({ route, index }) {
  if (route === undefined) return 'The service has no route.';
  const { by, atMs, rules, parts } = route;
  const made =
    index === 0 ? 'Route of the configuration' : `Route of change ${index} by ${by}, ${age(Date.now() - atMs)} ago`;
  const ruled = rules.map((/** @type {any} */ { name, to }) => `${name} to ${to}`).join(', ');
  return [made, ...(ruled === '' ? [] : [`rules before the shares: ${ruled}`]), ...parts].join(' · ');
}

/** @param {any} rollout */
function rolloutText({ state }) {
  const isActive = state === 'RUNNING' || state === 'PAUSED';
  return isActive ? 'under way; it pauses when somebody changes the shares' : 'the last one';
}

/** @param {any} comparison */
function sinceText({ first, second, splitIndex, sinceMs, missing }) {
  const since = splitIndex === 0 ? 'the start of the route' : `change ${splitIndex} of the route`;
  const at = sinceMs === undefined ? '' : `, ${age(Date.now() - sinceMs)} ago`;
  const lack = missing.length === 0 ? '' : `; ${missing.join(', ')} could not be asked`;
  return `${first} and ${second} since ${since}${at}${lack}`;
}
