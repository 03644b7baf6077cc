// The query language: what it accepts, what it means to FTS5, and what it refuses, with the place.

import { assert as holds, array, constantFrom, property, string } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Analyzer, Analyzers } from '../../../content-servers/text/analyzer.ts';
import { planQuery } from '../../../content-servers/text/plan.ts';
import { parseQuery } from '../../../content-servers/text/query.ts';
import { openSqlMemory } from '../../../content-servers/text/sqlite.ts';

const analyzer = new Analyzer('unicode61 remove_diacritics 2');
const FIELDS = ['title', 'body'];
const plan = (query: string, filter?: string) =>
  planQuery(
    { query: parseQuery(query), filter: filter === undefined ? undefined : parseQuery(filter) },
    analyzer,
    FIELDS,
  );

/** The `why` and `at` of a refused query. */
function refusal(query: string, filter?: string): { readonly why: string; readonly at: number } {
  try {
    plan(query, filter);
  } catch (error) {
    expect(error).toMatchObject({ exception: 'BadQuery' });
    return (error as { fields: { why: string; at: number } }).fields;
  }
  throw new Error(`${query} was accepted`);
}

describe('planQuery()', () => {
  test.each([
    ['rabbit', '"rabbit"'],
    ['white rabbit', '("white" AND "rabbit")'],
    ['white AND rabbit', '("white" AND "rabbit")'],
    ['white OR rabbit hole', '("white" OR ("rabbit" AND "hole"))'],
    ['(white OR rabbit) hole', '(("white" OR "rabbit") AND "hole")'],
    ['"white rabbit"', '"white rabbit"'],
    ['rab*', '"rab" *'],
    ['title:rabbit', '"title" : "rabbit"'],
    ['title:"white rabbit"', '"title" : "white rabbit"'],
    ['title:(white OR rab*) hole', '(("title" : "white" OR "title" : "rab" *) AND "hole")'],
    ['rabbit NOT hole', '("rabbit" NOT "hole")'],
    ['NOT hole rabbit AND NOT queen', '("rabbit" NOT ("hole" OR "queen"))'],
    ['white or not', '("white" AND "or" AND "not")'],
    ["don't", '"don\'t"'],
    ['at 12:30', '("at" AND "12:30")'],
    ['- rabbit !!', '"rabbit"'],
    ['rabbit NOT --', '"rabbit"'],
    ['AND-ROID', '"AND-ROID"'],
    ['a\0b', '("a" AND "b")'],
  ])('turns %j into %j', (query, expression) => {
    expect(plan(query).expression).toBe(expression);
  });

  test('scores the terms of words, phrases and prefixes once, in the order of the query', () => {
    const { terms } = plan('Crème "white rabbit" title:white OR rabbit ra* NOT queen', 'hole');
    expect(terms).toEqual([
      { field: undefined, term: 'creme', isPrefix: false },
      { field: undefined, term: 'white', isPrefix: false },
      { field: undefined, term: 'rabbit', isPrefix: false },
      { field: 'title', term: 'white', isPrefix: false },
      { field: undefined, term: 'ra', isPrefix: true },
    ]);
  });

  test('says when it is the filter that cannot be read', () => {
    expect(refusal('rabbit', 'size:1')).toEqual({
      why: 'in the filter: "size" is not an indexed field; there are title, body',
      at: 0,
    });
    expect(refusal('rabbit', '--').why).toBe('in the filter: it has no letter or digit to search');
  });

  test('adds the filter, which scores nothing', () => {
    expect(plan('rabbit', 'title:hole')).toEqual({
      expression: '("rabbit") AND ("title" : "hole")',
      terms: [{ field: undefined, term: 'rabbit', isPrefix: false }],
      sets: {
        kind: 'both',
        all: [
          { kind: 'leaf', leaf: { field: undefined, term: 'rabbit', isPrefix: false } },
          { kind: 'leaf', leaf: { field: 'title', term: 'hole', isPrefix: false } },
        ],
        none: [],
      },
      isAnyTerm: false,
    });
  });

  test('knows the queries that documents with any of their terms match', () => {
    for (const query of ['rabbit', 'rabbit OR hole', 'rabbit OR (title:hole OR rabbit)'])
      expect(plan(query).isAnyTerm, query).toBe(true);
    for (const query of ['rabbit hole', 'rabbit NOT hole', '"white rabbit" OR hole', 'rab* OR hole', 'a OR (b c)'])
      expect(plan(query).isAnyTerm, query).toBe(false);
    expect(plan('rabbit', 'hole').isAnyTerm).toBe(false);
  });

  test('makes sets of queries of single words only', () => {
    for (const query of ['a', 'a b', 'a NOT (b OR title:c) -', '- OR a']) expect(plan(query).sets).toBeDefined();
    for (const query of ["don't", 'rab*', 'a "b c"', 'a NOT b*']) expect(plan(query).sets).toBeUndefined();
    expect(plan('a', 'b*').sets).toBeUndefined();
  });

  test.each([
    ['', 0, 'the query is empty'],
    ['  ', 0, 'the query is empty'],
    ['rabbit AND', 10, 'the end of the query'],
    ['rabbit OR OR hole', 10, 'found "OR", expected a word'],
    ['NOT rabbit', 0, 'NOT excludes'],
    ['a OR NOT b', 5, 'NOT excludes'],
    ['NOT NOT a', 4, 'found "NOT"'],
    ['(rabbit', 0, 'this "(" has no ")"'],
    ['rabbit )', 7, 'without a "("'],
    ['()', 1, 'found ")"'],
    ['a "white rabbit', 2, 'not closed'],
    ['"white rab"*', 11, 'not a phrase'],
    ['a ra*it', 4, '"*"'],
    ['a *', 2, '"*" needs'],
    ['a colour:red', 2, '"colour" is not an indexed field; there are title, body'],
    ['http://example.org', 0, '"http" is not an indexed field'],
    ['title: ', 7, 'nothing to search after "title:"'],
    ['title:body:red', 6, 'after "title:"'],
    ['title:(body:red)', 7, '"body:" inside of "title:"'],
    ['...', 0, 'no letter or digit'],
    ['𝕏𝕏 AND', 6, 'the end of the query'],
  ])('refuses %j at %d: %s', (query, at, why) => {
    expect(refusal(query)).toEqual({ at, why: expect.stringContaining(why) as string });
  });

  test('refuses queries that are too long, too deep, or of too many words', () => {
    expect(refusal('a'.repeat(8_193)).why).toContain('8193 characters, the limit is 8192');
    expect(refusal('\u{1F407}'.repeat(8_193)).why).toContain('8193 characters, the limit is 8192');
    expect(refusal('\u{1F407}'.repeat(8_192)).why).toContain('no letter or digit');
    expect(plan(`${'('.repeat(20)}a${')'.repeat(20)}`).expression).toBe('"a"');
    expect(refusal(`${'('.repeat(21)}a${')'.repeat(21)}`)).toEqual({
      at: 20,
      why: expect.stringContaining('20 deep') as string,
    });
    const words = (count: number): string => Array.from({ length: count }, (_, i) => `w${i}`).join(' ');
    expect(plan(words(1_024)).terms.length).toBe(1_024);
    expect(refusal(words(1_025)).why).toContain('more than 1024 words');
    expect(refusal(`"${words(1_025)}"`).why).toContain('more than 1024 different words');
  });

  test('gives FTS5 only expressions that it understands, whatever the query', () => {
    const database = openSqlMemory();
    database.exec('CREATE VIRTUAL TABLE t USING fts5(title, body)');
    const match = database.prepare('SELECT count(*) AS found FROM t WHERE t MATCH ?');
    const part = constantFrom(
      'a',
      '"',
      '(',
      ')',
      '*',
      ':',
      'title:',
      'AND',
      'OR',
      'NOT',
      'NEAR(',
      '^',
      '+',
      '{',
      '}',
      '-',
      ' ',
      "'",
      '\0',
    );
    let accepted = 0;
    const check = (query: string): void => {
      let expression: string;
      try {
        ({ expression } = plan(query));
      } catch (error) {
        expect(error).toMatchObject({ exception: 'BadQuery' });
        return;
      }
      accepted++;
      expect(match.get(expression), query).toEqual({ found: 0 });
    };
    holds(
      property(array(part, { maxLength: 12 }), (parts) => check(parts.join(' '))),
      { numRuns: 700 },
    );
    holds(
      property(array(part, { maxLength: 12 }), (parts) => check(parts.join(''))),
      { numRuns: 700 },
    );
    holds(property(string({ unit: 'binary', maxLength: 30 }), check), { numRuns: 500 });
    const deep = (depth: number): string => (depth === 0 ? 'a' : `(a OR b NOT (c ${deep(depth - 1)}))`);
    check(deep(9));
    check(Array.from({ length: 1_024 }, (_, i) => `w${i}`).join(' OR '));
    check(`a ${'NOT b '.repeat(500)}`);
    expect(accepted).toBeGreaterThan(50);
    database.close();
  });
});

describe('Analyzers', () => {
  test('give one analyzer for each tokenizer, and name those that there are', () => {
    const analyzers = new Analyzers();
    expect(analyzers.of('porter unicode61')).toBe(analyzers.of('porter unicode61'));
    expect(analyzers.of('porter unicode61').terms('The Running Hares')).toEqual(['the', 'run', 'hare']);
    expect(analyzers.of("unicode61 tokenchars '-_'").terms('well-known')).toEqual(['well-known']);
    expect(() => analyzers.of('trigram')).toThrow('its tokenizer is "trigram", expected unicode61, ascii, porter');
    expect(() => analyzers.of('unicode61 colour 3')).toThrow('its tokenizer "unicode61 colour 3" is refused by SQLite');
    expect(() => analyzers.of("ascii x', content = 'x")).toThrow('is refused by SQLite');
  });
});
