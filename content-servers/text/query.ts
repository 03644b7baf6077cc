// The query language: words, "phrases", prefix*, field:word, AND, OR, NOT and parentheses. Words side by side must all
// occur. The parser turns a query into a tree and refuses what it does not understand, with the place. Nothing that a
// caller wrote reaches FTS5 as syntax.
//
//   either := both ("OR" both)*
//   both   := ["NOT"] part (["AND"] ["NOT"] part)*      at least one part without NOT
//   part   := [field ":"] (word | word"*" | '"' text '"' | "(" either ")")

import { ThriftException } from '../../chassis-sdk/typescript/mod.ts';
import { TEXT_LIMITS } from './limits.ts';

/** A word or phrase, as written. */
export interface QueryWords {
  readonly kind: 'words';
  readonly text: string;
  /** undefined for all fields. */
  readonly field: string | undefined;
  readonly isPrefix: boolean;
  /** Place of the word or of its field in the query, in characters from 0. */
  readonly at: number;
}

/** All of `all` and none of `none`. */
export interface QueryBoth {
  readonly kind: 'both';
  readonly all: readonly QueryTree[];
  readonly none: readonly QueryTree[];
}

export interface QueryEither {
  readonly kind: 'either';
  readonly any: readonly QueryTree[];
}

export type QueryTree = QueryWords | QueryBoth | QueryEither;

/**
 * Parses a query.
 * @throws ThriftException BadQuery with the place, in characters from 0
 */
export function parseQuery(text: string): QueryTree {
  const { queryLengthMax } = TEXT_LIMITS;
  // JavaScript counts characters beyond U+FFFF as two.
  const length = text.length > queryLengthMax ? Array.from(text).length : text.length;
  if (length > queryLengthMax) throw badQuery(`the query has ${length} characters, the limit is ${queryLengthMax}`);
  const parser = new QueryParser(text);
  return parser.parse();
}

/** The declared exception of every search method. `at` is -1 when it is about no place in the query. */
export function badQuery(why: string, at = -1): ThriftException {
  return new ThriftException('BadQuery', { why, at });
}

/** Says of a BadQuery that it is about the filter, not the query. */
export function inFilter<Result>(read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ThriftException) || error.exception !== 'BadQuery') throw error;
    const { why, at } = error.fields as { why: string; at: number };
    throw badQuery(`in the filter: ${why}`, at);
  }
}

type QueryToken =
  | { readonly kind: 'word'; readonly text: string; readonly isPrefix: boolean; readonly at: number }
  | { readonly kind: 'phrase'; readonly text: string; readonly at: number }
  | FieldToken
  | { readonly kind: 'AND' | 'OR' | 'NOT' | '(' | ')' | 'end'; readonly text: string; readonly at: number };
interface FieldToken {
  readonly kind: 'field';
  readonly text: string;
  readonly at: number;
}

class QueryParser {
  readonly #text: string;
  #at = 0;
  #token: QueryToken;
  #depth = 0;
  #words = 0;
  /** The place that was counted last, by offset. */
  #counted = NOTHING_COUNTED;

  constructor(text: string) {
    this.#text = text;
    this.#token = this.#read();
  }

  parse(): QueryTree {
    if (this.#isAtEnd()) throw this.#bad('the query is empty, expected a word', 0);
    const tree = this.#either(undefined);
    if (!this.#isAtEnd()) throw this.#bad('found ")" without a "(" before it', this.#token.at);
    return tree;
  }

  #isAtEnd(): boolean {
    return this.#token.kind === 'end';
  }

  #bad(why: string, at: number): ThriftException {
    return badQuery(why, this.#place(at));
  }

  /**
   * A place in characters. JavaScript counts those beyond U+FFFF as two. Counts from the last place on, since counting
   * from the start for each word would take most of the time of a long query.
   */
  #place(at: number): number {
    const from = at < this.#counted.at ? NOTHING_COUNTED : this.#counted;
    const place = from.place + Array.from(this.#text.slice(from.at, at)).length;
    this.#counted = { at, place };
    return place;
  }

  #either(field: FieldToken | undefined): QueryTree {
    const any = [this.#both(field)];
    while (this.#token.kind === 'OR') {
      this.#next();
      any.push(this.#both(field));
    }
    return any.length === 1 ? (any[0] as QueryTree) : { kind: 'either', any };
  }

  #both(field: FieldToken | undefined): QueryTree {
    const all: QueryTree[] = [];
    const none: QueryTree[] = [];
    let notAt = -1;
    for (;;) {
      if (this.#token.kind === 'NOT') {
        if (notAt < 0) notAt = this.#token.at;
        this.#next();
        none.push(this.#part(field));
      } else all.push(this.#part(field));
      const { kind } = this.#token;
      if (kind === 'AND') this.#next();
      else if (kind === 'end' || kind === ')' || kind === 'OR') break;
    }
    if (all.length === 0)
      throw this.#bad('NOT excludes documents from those that match; put a word without NOT beside it', notAt);
    return all.length === 1 && none.length === 0 ? (all[0] as QueryTree) : { kind: 'both', all, none };
  }

  #part(field: FieldToken | undefined): QueryTree {
    const token = this.#token;
    switch (token.kind) {
      case 'word':
      case 'phrase': {
        if (++this.#words > TEXT_LIMITS.queryWordsMax)
          throw this.#bad(`the query has more than ${TEXT_LIMITS.queryWordsMax} words`, token.at);
        this.#next();
        const isPrefix = token.kind === 'word' && token.isPrefix;
        return {
          kind: 'words',
          text: token.text,
          field: field?.text,
          isPrefix,
          at: this.#place((field ?? token).at),
        };
      }
      case 'field': {
        if (field !== undefined) throw this.#bad(`found "${token.text}:" inside of "${field.text}:"`, token.at);
        this.#next();
        const { kind, at } = this.#token;
        if (kind !== 'word' && kind !== 'phrase' && kind !== '(')
          throw this.#bad(`found nothing to search after "${token.text}:"`, at);
        return this.#part(token);
      }
      case '(': {
        if (++this.#depth > TEXT_LIMITS.queryDepthMax)
          throw this.#bad(`the parentheses are more than ${TEXT_LIMITS.queryDepthMax} deep`, token.at);
        this.#next();
        const tree = this.#either(field);
        if (this.#token.kind !== ')') throw this.#bad('this "(" has no ")"', token.at);
        this.#next();
        this.#depth--;
        return tree;
      }
      case 'AND':
      case 'OR':
      case 'NOT':
      case ')':
      case 'end': {
        const found = token.kind === 'end' ? 'the end of the query' : `"${token.kind}"`;
        throw this.#bad(
          `found ${found}, expected a word; put "quotes" around a word that is not an operator`,
          token.at,
        );
      }
    }
  }

  #next(): void {
    this.#token = this.#read();
  }

  #read(): QueryToken {
    const text = this.#text;
    BLANK.lastIndex = this.#at;
    this.#at += BLANK.exec(text)?.[0].length ?? 0;
    const at = this.#at;
    const first = text[at];
    if (first === undefined) return { kind: 'end', text: '', at };
    if (first === '(' || first === ')') {
      this.#at++;
      return { kind: first, text: first, at };
    }
    if (first === '"') return this.#readPhrase(at);
    WORD.lastIndex = at;
    const word = WORD.exec(text)?.[0] as string;
    const field = FIELD.exec(word)?.[1];
    if (field !== undefined) {
      this.#at = at + field.length + 1;
      return { kind: 'field', text: field, at };
    }
    this.#at = at + word.length;
    if (word === 'AND' || word === 'OR' || word === 'NOT') return { kind: word, text: word, at };
    const star = word.indexOf('*');
    if (star >= 0 && star < word.length - 1)
      throw this.#bad('"*" stands for the rest of a word, so it can only be its last character', at + star);
    if (word === '*') throw this.#bad('"*" needs the beginning of a word before it', at);
    return { kind: 'word', text: star < 0 ? word : word.slice(0, -1), isPrefix: star >= 0, at };
  }

  #readPhrase(at: number): QueryToken {
    const end = this.#text.indexOf('"', at + 1);
    if (end < 0) throw this.#bad('this quote is not closed', at);
    this.#at = end + 1;
    if (this.#text[end + 1] === '*') throw this.#bad('"*" can follow a word, not a phrase', end + 1);
    return { kind: 'phrase', text: this.#text.slice(at + 1, end), at };
  }
}

const NOTHING_COUNTED = { at: 0, place: 0 };
/** NUL would end the text for SQLite. */
const BLANK = /[\s\0]*/y;
const WORD = /[^\s\0"()]+/y;
/** What can be a field at the beginning of a word; `12:30` has none. */
const FIELD = /^([\p{L}_][\p{L}\p{N}_.-]*):/u;
