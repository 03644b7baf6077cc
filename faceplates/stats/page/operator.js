// The operator: who has given the page an admin token may change things. The token is kept in the memory of this page
// only, and sent with each change. The mesh checks it and writes its name to the audit log.

import { make, say } from './format.js';

const TIMEOUT_MS = 40_000;

export class Operator {
  /** Shows a form for the token, or that there is one. */
  element = make('form', 'operator-form');
  #token = '';
  #service = '';
  #label = make('label', 'pick', 'Admin token');
  #input = make('input');
  #use = make('button', 'action', 'Allow changes');
  #forget = make('button', 'action', 'Forget the token');
  #state = make('span', 'operator-state');
  /** @type {(() => void)[]} */ #watchers = [];

  constructor() {
    this.#input.type = 'password';
    this.#input.autocomplete = 'off';
    this.#input.spellcheck = false;
    this.#input.required = true;
    this.#label.append(' ', this.#input);
    this.#forget.type = 'button';
    this.#state.setAttribute('role', 'status');
    this.element.append(this.#label, this.#use, this.#state, this.#forget);
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#try(this.#input.value.trim());
    });
    this.#forget.addEventListener('click', () => this.#set(''));
    if (!isSecureContext) {
      this.#input.title = 'This page came without TLS, so others on the network could read the token.';
      say(this.#state, 'no TLS: others on the network could read it');
    }
    this.#show();
  }

  get isAllowed() {
    return this.#token !== '';
  }

  /** @param {string} service whose view is open */
  serve(service) {
    this.#service = service;
  }

  /** @param {() => void} watcher called when the token has come or gone */
  onChange(watcher) {
    this.#watchers.push(watcher);
  }

  /**
   * Asks for something. Throws an Error with the reason for a refusal.
   * @param {object} request
   * @returns {Promise<any>}
   */
  async ask(request) {
    const response = await fetch(`versions/${encodeURIComponent(this.#service)}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${this.#token}` },
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = await response.text();
    if (response.ok) return JSON.parse(text);
    throw new Error(reasonIn(text) ?? (text.trim() || `The mesh answered ${response.status}`));
  }

  /** Keeps the token if it may make changes. @param {string} token */
  async #try(token) {
    this.#token = token;
    this.#use.disabled = true;
    say(this.#state, 'checking');
    try {
      await this.ask({ do: 'differences' });
      this.#set(token);
    } catch (error) {
      this.#set('');
      say(this.#state, reasonOf(error));
    }
    this.#use.disabled = false;
  }

  /** @param {string} token */
  #set(token) {
    this.#token = token;
    this.#input.value = '';
    say(this.#state, token === '' ? '' : 'Changes are allowed until the page is closed.');
    this.#show();
    for (const watcher of this.#watchers) watcher();
  }

  #show() {
    this.#label.hidden = this.isAllowed;
    this.#use.hidden = this.isAllowed;
    this.#forget.hidden = !this.isAllowed;
  }
}

/** A button that asks before it acts: the first click names what happens, the second one does it. */
export class ConfirmedButton {
  element = make('button', 'action');
  #label;
  #question = '';
  #isAsking = false;

  /** @param {string} label @param {() => Promise<void>} act */
  constructor(label, act) {
    this.#label = label;
    this.element.type = 'button';
    this.element.addEventListener('click', () => {
      if (this.#isAsking) void this.#act(act);
      else this.#ask(true);
    });
    this.element.addEventListener('blur', () => this.#ask(false));
    this.element.addEventListener('keydown', ({ key }) => {
      if (key === 'Escape') this.#ask(false);
    });
    this.#ask(false);
  }

  /** @param {string} question */
  update(question) {
    this.#question = question;
    if (this.#isAsking) say(this.element, question);
  }

  /** @param {boolean} isAsking */
  #ask(isAsking) {
    this.#isAsking = isAsking;
    this.element.classList.toggle('asking', isAsking);
    say(this.element, isAsking ? this.#question : this.#label);
  }

  /** @param {() => Promise<void>} act */
  async #act(act) {
    this.element.disabled = true;
    try {
      await act();
    } finally {
      this.element.disabled = false;
      this.#ask(false);
    }
  }
}

/** @param {unknown} error */
export function reasonOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {string} text @returns {string | undefined} */
function reasonIn(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return undefined;
  }
}
