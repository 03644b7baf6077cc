// What a query means for shards with one analyzer and one set of fields: an expression of FTS5 that finds the
// documents, and the terms that score them. Terms are in the order of the query, each once, however often it is
// written. Words under NOT and in filters do not score.

import type { Analyzer } from './analyzer.ts';
import { TEXT_LIMITS } from './limits.ts';
import { badQuery, inFilter, type QueryTree, type QueryWords } from './query.ts';
import type { SetTree } from './set-tree.ts';

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
  /** The same as sets of documents; undefined when the query has a phrase or a prefix. */
  readonly sets: SetTree<ScoringTerm> | undefined;
  /** Whether the documents with any of the terms match, and no others. */
  readonly isAnyTerm: boolean;
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
  const sets = planner.setsOf(query);
  if (filter === undefined)
    return { expression: found, terms: planner.terms, sets, isAnyTerm: sets !== undefined && isUnion(sets) };
  const kept = inFilter(() => planner.expressionOf(filter, false));
  if (kept === undefined) throw badQuery('in the filter: it has no letter or digit to search', 0);
  const keptSets = planner.setsOf(filter);
  const isSets = sets !== undefined && keptSets !== undefined;
  return {
    expression: `(${found}) AND (${kept})`,
    terms: planner.terms,
    sets: isSets ? { kind: 'both', all: [sets, keptSets], none: [] } : undefined,
    isAnyTerm: false,
  };
}

function isUnion(tree: SetTree<ScoringTerm>): boolean {
  return tree.kind === 'leaf' || (tree.kind === 'either' && tree.any.every(isUnion));
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

  /** The tree as sets of documents; undefined when there is nothing left of it, or more than single words. */
  setsOf(tree: QueryTree): SetTree<ScoringTerm> | undefined {
    const found = this.#sets(tree);
    return found === 'no sets' ? undefined : found;
  }

  /** @returns undefined when nothing of the tree is left, as in `expressionOf` */
  #sets(tree: QueryTree): SetTree<ScoringTerm> | 'no sets' | undefined {
    if (tree.kind === 'words') {
      const [term, second] = this.#analyzer.terms(tree.text);
      if (term === undefined) return undefined;
      if (second !== undefined || tree.isPrefix) return 'no sets';
      return { kind: 'leaf', leaf: { field: tree.field, term, isPrefix: false } };
    }
    const parts = (trees: readonly QueryTree[]): SetTree<ScoringTerm>[] | undefined => {
      const found = trees.map((one) => this.#sets(one)).filter((one) => one !== undefined);
      const sets = found.filter((one) => one !== 'no sets');
      return sets.length < found.length ? undefined : sets;
    };
    if (tree.kind === 'either') {
      const any = parts(tree.any);
      if (any === undefined) return 'no sets';
      return any.length === 0 ? undefined : { kind: 'either', any };
    }
    const [all, none] = [parts(tree.all), parts(tree.none)];
    if (all === undefined || none === undefined) return 'no sets';
    return all.length === 0 ? undefined : { kind: 'both', all, none };
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
