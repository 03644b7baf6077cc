// What a query means for shards with one analyzer and one set of fields: an expression of FTS5 that finds the
// documents, and the terms that score them. Terms are in the order of the query, each once, however often it is
// written. Words under NOT and in filters do not score.

import type { Analyzer } from './analyzer.ts';
import { TEXT_LIMITS } from './limits.ts';
import { badQuery, type QueryTree, type QueryWords } from './query.ts';

/** A term that scores documents. */
export interface ScoringTerm {
  /** undefined for all fields. */
  readonly field: string | undefined;
  readonly term: string;
  /** It stands for all terms that begin with `term`. */
  readonly isPrefix: boolean;
}

export interface QueryPlan {
  /** For `MATCH`. */
  readonly expression: string;
  readonly terms: readonly ScoringTerm[];
  /** Set when the documents that match are simply those with this one term. */
  readonly only: ScoringTerm | undefined;
}

export interface PlanRequest {
  readonly query: QueryTree;
  /** Documents must match it too. */
  readonly filter?: QueryTree | undefined;
}

/** @throws ThriftException BadQuery for a field that is not indexed, and for a query without a term */
export function planQuery({ query, filter }: PlanRequest, analyzer: Analyzer, fields: readonly string[]): QueryPlan {
  const planner = new Planner(analyzer, fields);
  const found = planner.expressionOf(query, true);
  if (found === undefined) throw badQuery('the query has no letter or digit to search', 0);
  if (filter === undefined) return { expression: found, terms: planner.terms, only: planner.onlyTerm(query) };
  const kept = planner.expressionOf(filter, false);
  if (kept === undefined) throw badQuery('the filter has no letter or digit to search', 0);
  return { expression: `(${found}) AND (${kept})`, terms: planner.terms, only: undefined };
}

class Planner {
  readonly #analyzer: Analyzer;
  readonly #fields: readonly string[];
  readonly #seen = new Set<string>();
  readonly terms: ScoringTerm[] = [];

  constructor(analyzer: Analyzer, fields: readonly string[]) {
    this.#analyzer = analyzer;
    this.#fields = fields;
  }

  /** @returns undefined when nothing of the tree is left: punctuation has no terms */
  expressionOf(tree: QueryTree, isScoring: boolean): string | undefined {
    if (tree.kind === 'words') return this.#words(tree, isScoring);
    const join = (trees: readonly QueryTree[], by: string, scores: boolean): string | undefined => {
      const parts = trees.map((one) => this.expressionOf(one, scores)).filter((one) => one !== undefined);
      return parts.length < 2 ? parts[0] : `(${parts.join(` ${by} `)})`;
    };
    if (tree.kind === 'either') return join(tree.any, 'OR', isScoring);
    const all = join(tree.all, 'AND', isScoring);
    const none = join(tree.none, 'OR', false);
    return all === undefined || none === undefined ? all : `(${all} NOT ${none})`;
  }

  /** The term of a query that is one word. */
  onlyTerm(tree: QueryTree): ScoringTerm | undefined {
    const [first, second] = this.terms;
    const isOne = tree.kind === 'words' && second === undefined && first?.isPrefix === false;
    return isOne && this.#analyzer.terms(tree.text).length === 1 ? first : undefined;
  }

  #words({ text, field, isPrefix, at }: QueryWords, isScoring: boolean): string | undefined {
    if (field !== undefined && !this.#fields.includes(field))
      throw badQuery(`"${field}" is not an indexed field; there are ${this.#fields.join(', ') || 'none'}`, at);
    const terms = this.#analyzer.terms(text);
    if (terms.length === 0) return undefined;
    for (const [place, term] of terms.entries())
      if (isScoring) this.#add({ field, term, isPrefix: isPrefix && place === terms.length - 1 }, at);
    // FTS5 splits the text by itself. It must: a stem may have another stem.
    return `${field === undefined ? '' : `${quoted(field)} : `}${quoted(text)}${isPrefix ? ' *' : ''}`;
  }

  #add(term: ScoringTerm, at: number): void {
    const key = `${term.field ?? ''}:${term.isPrefix}:${term.term}`;
    if (this.#seen.has(key)) return;
    if (this.terms.length === TEXT_LIMITS.scoringTermsMax)
      throw badQuery(`the query has more than ${TEXT_LIMITS.scoringTermsMax} different words`, at);
    this.#seen.add(key);
    this.terms.push(term);
  }
}

function quoted(text: string): string {
  return `"${text.replaceAll('"', '""').replaceAll('\0', ' ')}"`;
}
