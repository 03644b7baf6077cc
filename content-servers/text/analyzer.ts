// Splits text into terms as a shard does: with the tokenizer of its FTS5 table. SQLite does not offer its tokenizers to
// SQL, so the text goes into a small index in memory and its terms are read from there. Shards with the same tokenizer
// share an analyzer, which lives as long as the process.

import { LRUCache } from 'lru-cache';
import { TEXT_LIMITS } from './limits.ts';
import { openSqlMemory, type SqlDatabase, type SqlStatement } from './sqlite.ts';

export class Analyzer {
  readonly tokenizer: string;
  readonly #database: SqlDatabase;
  readonly #insert: SqlStatement;
  readonly #terms: SqlStatement;
  readonly #cache = new LRUCache<string, readonly string[]>({ max: TEXT_LIMITS.cachedWordsMax });

  /** @throws Error of SQLite when it does not know the tokenizer */
  constructor(tokenizer: string) {
    this.tokenizer = tokenizer;
    this.#database = openSqlMemory();
    try {
      this.#database.exec(`CREATE VIRTUAL TABLE q USING fts5(x, tokenize = '${tokenizer.replaceAll("'", "''")}')`);
      this.#database.exec('CREATE VIRTUAL TABLE v USING fts5vocab(q, instance)');
      this.#insert = this.#database.prepare('INSERT INTO q(rowid, x) VALUES(1, ?)');
      this.#terms = this.#database.prepare(
        'SELECT json_group_array(term) AS terms FROM (SELECT term FROM v ORDER BY offset)',
      );
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** The terms of a word or phrase, in order. Empty for text without letters and digits. */
  terms(text: string): readonly string[] {
    let terms = this.#cache.get(text);
    if (terms === undefined) {
      this.#database.exec('BEGIN');
      try {
        this.#insert.run(text);
        terms = JSON.parse(this.#terms.get()?.['terms'] as string) as string[];
      } finally {
        this.#database.exec('ROLLBACK');
      }
      this.#cache.set(text, terms);
    }
    return terms;
  }
}

/** The analyzer of each tokenizer in use, by its name with options. */
export class Analyzers {
  readonly #all = new Map<string, Analyzer>();

  /** @throws Error for a tokenizer that SQLite does not bring along, or more than 100 different ones */
  of(tokenizer: string): Analyzer {
    const known = this.#all.get(tokenizer);
    if (known !== undefined) return known;
    const name = tokenizer.trim().split(/\s+/)[0] ?? '';
    if (!TOKENIZERS.includes(name.replaceAll(/^['"]|['"]$/g, '').toLowerCase()))
      throw new Error(`its tokenizer is "${tokenizer}", expected ${TOKENIZERS.join(', ')}`);
    if (this.#all.size === ANALYZERS_MAX)
      throw new Error(`its tokenizer "${tokenizer}" is one of more than ${ANALYZERS_MAX} different ones`);
    let analyzer: Analyzer;
    try {
      analyzer = new Analyzer(tokenizer);
    } catch (error) {
      throw new Error(`its tokenizer "${tokenizer}" is refused by SQLite: ${(error as Error).message}`, {
        cause: error,
      });
    }
    this.#all.set(tokenizer, analyzer);
    return analyzer;
  }
}

/** Tokenizers that turn text into words. `trigram` does not, so prefixes and phrases would mean something else. */
const TOKENIZERS: readonly string[] = ['unicode61', 'ascii', 'porter'];
const ANALYZERS_MAX = 100;
