/**
 * Reformulate: what a search engine asks before it searches. Takes a query apart, reduces its words to stems,
 * corrects what is misspelt and finds other words for the rest. Two versions with this one interface run side by
 * side, so that their answers can be compared and traffic moved from one to the other.
 */
namespace * reformulate

/** Longest query and word, most tokens, most suggestions or synonyms: beyond these a call is refused. */
const i32 QUERY_LENGTH_MAX = 1000
const i32 TOKENS_MAX = 64
const i32 WORD_LENGTH_MAX = 64
const i32 LIMIT_MAX = 50

enum TokenKind {
  /** Letters, with apostrophes inside: don't. */
  WORD = 1
  /** Digits, with points and commas inside: 1,000.5. */
  NUMBER = 2
}

/** A word or number of the query. What stands between tokens is not reported. */
struct Token {
  /** As written. */
  1: string text
  /** In lower case, without accents: what the other fields and methods go by. */
  2: string normal
  /** Where it starts in the query, in Unicode code points from 0. */
  3: i32 offset
  /** How many code points of the query it takes. */
  4: i32 length
  5: TokenKind kind
  /** What its inflected forms have in common; numbers are their own stem. */
  6: string stem
}

/** A word that may have been meant. */
struct Suggestion {
  1: string word
  /** How many letters must be inserted, removed, replaced or swapped with their neighbour. */
  2: i32 distance
  /** 0 to 1, best first. Comparable within one version only. */
  3: double score
}

struct Analysis {
  1: list<Token> tokens
  /** For each word (in its normal form) that no dictionary has: what may have been meant, best first. */
  2: map<string, list<Suggestion>> suggestions
  /** For each word that the thesaurus knows: other words for it, best first. */
  3: map<string, list<string>> synonyms
  /** The query with every misspelt word replaced by its best suggestion; absent when nothing was replaced. */
  4: optional string corrected
}

/** The input is outside the limits of this service. */
exception QueryRefused {
  /** What was wrong with it, and what is accepted. */
  1: string why
}

/** Tokens, stems, corrections and synonyms for the words of a search query. English only. */
service Reformulate {
  /**
   * Everything about a query at once: tokens with stems, suggestions for what is misspelt (5 a word), synonyms (10 a
   * word).
   */
  Analysis analyze(1: string query) throws (1: QueryRefused refused) (katamari.readonly = "true")

  /** The words and numbers of a query, in order. */
  list<Token> tokenize(1: string query) throws (1: QueryRefused refused) (katamari.readonly = "true")

  /**
   * The stem of one word: `connections` gives `connect`. Version 1 follows Porter's paper of 1980, version 2 his
   * English stemmer.
   */
  string stem(1: string word) throws (1: QueryRefused refused) (katamari.readonly = "true")

  /**
   * Words that may have been meant, best first; empty for a word that is spelt right. Version 1 finds those one edit
   * away, version 2 those two edits away, and knows which keys are neighbours and which words are common.
   */
  list<Suggestion> suggest(1: string word, 2: i32 limit = 5) throws (1: QueryRefused refused) (katamari.readonly = "true")

  /**
   * Other words for a word. Version 1 looks up the word as it is, version 2 falls back on its stem (`searching` gives
   * those of `search`) and puts common words first.
   */
  list<string> synonyms(1: string word, 2: i32 limit = 10) throws (1: QueryRefused refused) (katamari.readonly = "true")
}
