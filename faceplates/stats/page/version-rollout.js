// The rollout of a service: its steps, what each guard sees, and the buttons by which an operator changes it.

import { age, arrange, count, make, mark, say } from './format.js';
import { ConfirmedButton, reasonOf } from './operator.js';
import { FigureTable } from './version-figures.js';

const GUARDS = ['Guard', 'Seen'];

export class RolloutProgress {
  #operator;
  #refresh;
  #state = make('span', 'state');
  #what = make('span', 'rollout-what');
  #steps = make('ol', 'rollout-steps');
  #guards = new FigureTable(GUARDS);
  #figures = make('p', 'route-facts');
  #said = make('span', 'draft-note');
  #pause = this.#button('Pause', 'PAUSE');
  #resume = this.#button('Resume', 'RESUME');
  #promote = this.#button('Promote', 'PROMOTE');
  #abort = this.#button('Abort', 'ABORT');
  #buttons = make('p', 'draft');

  /**
   * @param {HTMLElement} place
   * @param {import('./operator.js').Operator} operator
   * @param {() => Promise<void>} refresh
   */
  constructor(place, operator, refresh) {
    this.#operator = operator;
    this.#refresh = refresh;
    this.#said.setAttribute('role', 'status');
    this.#steps.setAttribute('aria-label', 'Steps of the rollout');
    const head = make('p', 'line');
    head.append(this.#state, this.#what);
    this.#buttons.append(...this.#all().map(({ element }) => element), this.#said);
    place.append(head, this.#steps, this.#guards.element, this.#figures, this.#buttons);
  }

  reset() {
    say(this.#said, '');
  }

  /** @param {any} status struct RolloutStatus */
  update(status) {
    const { plan, state, share, step, reason, waitsFor, guards, isHolding } = status;
    const { fromVersion: from, toVersion: to } = plan;
    const isActive = state === 'RUNNING' || state === 'PAUSED';
    say(this.#state, state.toLowerCase());
    mark(this.#state, 'data-state', LOOKS[state] ?? 'unknown');
    const at = isActive ? `, step ${step + 1} of ${plan.steps.length}` : '';
    const next = [reason, isActive ? waitsFor : ''].filter((text) => text !== '').join('; ');
    say(this.#what, `${from} to ${to}: ${share} %${at}${next === '' ? '' : ` · ${next}`}`);
    arrange(
      this.#steps,
      plan.steps.map((/** @type {number} */ _, /** @type {number} */ i) => this.#steps.children[i] ?? stepItem()),
    );
    for (const [i, one] of plan.steps.entries()) this.#showStep(status, i, one, isActive);
    this.#guards.update(
      GUARDS,
      guards.map((/** @type {any} */ { guard, isViolated, text }) => ({
        cells: [guard, `${isViolated ? 'violated: ' : ''}${text || 'nothing to compare yet'}`],
        tone: isViolated ? 'certain' : '',
      })),
    );
    say(this.#figures, figuresText(status));
    const isAllowed = this.#operator.isAllowed && isActive;
    this.#pause.element.hidden = !isAllowed || state !== 'RUNNING';
    this.#resume.element.hidden = !isAllowed || state !== 'PAUSED';
    this.#promote.element.hidden = !isAllowed || (isHolding && step + 1 >= plan.steps.length);
    this.#abort.element.hidden = !isAllowed;
    this.#pause.update(`Stay at ${share} %`);
    this.#resume.update(`Go on from ${share} %`);
    this.#promote.update(`Go to ${plan.steps.at(-1)} % without holding`);
    this.#abort.update(`Give the calls back to ${from}`);
  }

  /** @param {any} status @param {number} at @param {number} share @param {boolean} isActive */
  #showStep({ passed, step, state, isHolding }, at, share, isActive) {
    const item = /** @type {HTMLElement} */ (this.#steps.children[at]);
    const [name, text] = /** @type {HTMLElement[]} */ ([...item.children]);
    const held = passed.find((/** @type {any} */ one) => one.share === share);
    let what = at < step ? 'left out' : 'to come';
    if (held !== undefined) what = 'held';
    else if (at === step) what = isActive ? (isHolding ? 'holding' : 'starting copies') : state.toLowerCase();
    say(/** @type {Element} */ (name), `${share} %`);
    say(/** @type {Element} */ (text), what);
    item.dataset['step'] = held !== undefined ? 'held' : at === step ? 'now' : '';
    item.title = held?.verdicts.join('\n') ?? '';
    mark(item, 'aria-current', at === step && isActive ? 'step' : 'false');
  }

  #all() {
    return [this.#pause, this.#resume, this.#promote, this.#abort];
  }

  /** @param {string} label @param {string} action of the enum RolloutAction */
  #button(label, action) {
    return new ConfirmedButton(label, async () => {
      say(this.#said, '');
      try {
        await this.#operator.ask({ do: 'rollout', action });
      } catch (error) {
        say(this.#said, reasonOf(error));
      }
      await this.#refresh();
    });
  }
}

function stepItem() {
  const item = make('li');
  item.append(make('b'), make('span'));
  return item;
}

/** @param {any} status */
function figuresText({ plan, calls, badCalls, startedAtMs, startedBy, leader, state, notes }) {
  const isActive = state === 'RUNNING' || state === 'PAUSED';
  return [
    `${count(badCalls)} of ${count(calls)} calls of ${plan.toVersion} went wrong`,
    `began ${age(Date.now() - startedAtMs)} ago, by ${startedBy}`,
    ...(isActive ? [leader === '' ? 'no master carries it out now' : `${leader} carries it out`] : []),
    ...notes,
  ].join(' · ');
}

/** Looks of the states, in the style sheet. @type {Readonly<Record<string, string>>} */
const LOOKS = { RUNNING: 'ready', PAUSED: 'draining', DONE: 'ready', REVERTED: 'incomplete', ABORTED: 'draining' };
