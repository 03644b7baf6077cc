/**
 * Reformulate: query analysis for a search engine. Splits a query into tokens, reduces words to stems, corrects
 * spelling and finds synonyms. Two versions with the same interface run side by side, so that their results can be
 * compared and traffic can move from one to the other.
 */
namespace * reformulate

/**
 * Limits of the length of a query and a word, and of the number of tokens, suggestions and synonyms. Calls above them
 * are refused.
 */
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

/** A word or number of the query. Text between tokens is not reported. */
struct Token {
  /** As written. */
  1: string text
  /** Normal form: lower case, without accents. The other fields and methods use it. */
  2: string normal
  /** Where it starts in the query, in Unicode code points from 0. */
  3: i32 offset
  /** How many code points of the query it takes. */
  4: i32 length
  5: TokenKind kind
  /** The stem that inflected forms share. The stem of a number is the number. */
  6: string stem
}

/** A spelling suggestion. */
struct Suggestion {
  1: string word
  /** Edit distance: letters that are inserted, removed, replaced or swapped with their neighbor. */
  2: i32 distance
  /** 0 to 1; higher is better. Comparable within one version only. */
  3: double score
}

struct Analysis {
  1: list<Token> tokens
  /** Suggestions for each unknown word (in normal form), best first. */
  2: map<string, list<Suggestion>> suggestions
  /** Synonyms for each word in the thesaurus, best first. */
  3: map<string, list<string>> synonyms
  /** The query with each misspelled word replaced by its best suggestion; absent if nothing was replaced. */
  4: optional string corrected
}

/** The input is outside the limits of this service. */
exception QueryRefused {
  /** What is wrong, and what is accepted. */
  1: string why
}

/** Tokens, stems, corrections and synonyms for the words of a search query. English only. */
service Reformulate {
  /**
   * Full analysis of a query: tokens with stems, up to 5 suggestions per misspelled word, up to 10 synonyms per word.
   */
  Analysis analyze(1: string query) throws (1: QueryRefused refused) (katamari.readonly = "true")

  /** Returns the words and numbers of a query, in order. */
  list<Token> tokenize(1: string query) throws (1: QueryRefused refused) (katamari.readonly = "true")

  /**
   * Returns the stem of a word: `connections` gives `connect`. Version 1 follows Porter's paper of 1980, version 2
   * his English stemmer.
   */
  string stem(1: string word) throws (1: QueryRefused refused) (katamari.readonly = "true")

  /**
   * Returns spelling suggestions, best first; empty for a correct word. Version 1 finds words with one edit. Version
   * 2 finds words with up to two edits, and ranks by neighboring keys and word frequency.
   */
  list<Suggestion> suggest(1: string word, 2: i32 limit = 5) throws (1: QueryRefused refused) (katamari.readonly = "true")

  /**
   * Returns synonyms of a word. Version 1 looks up the exact word. Version 2 also uses its stem (`searching` gives
   * those of `search`) and lists common words first.
   */
  list<string> synonyms(1: string word, 2: i32 limit = 10) throws (1: QueryRefused refused) (katamari.readonly = "true")
}
