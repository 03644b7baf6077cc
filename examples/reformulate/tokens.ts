// Splits a query into words and numbers. Offsets are Unicode code points, so that they mean the same in every
// language.
import { normalize } from './words.ts';

/** Kinds of tokens, as in `reformulate.thrift`. */
export const TokenKind = { word: 1, number: 2 } as const;
export type TokenKind = (typeof TokenKind)[keyof typeof TokenKind];

export interface Token {
  readonly text: string;
  readonly normal: string;
  /** Offset in code points of the query; `length` uses the same unit. */
  readonly offset: number;
  readonly length: number;
  readonly kind: TokenKind;
}

/** Returns the words and numbers of a query, in order. */
export function tokenize(query: string): Token[] {
  const tokens: Token[] = [];
  let codePoints = 0;
  let seen = 0;
  for (const match of query.matchAll(tokenPattern)) {
    const text = match[0];
    const offset = codePoints + countCodePoints(query.slice(seen, match.index));
    const length = countCodePoints(text);
    codePoints = offset + length;
    seen = match.index + text.length;
    const kind = match.groups?.['number'] === undefined ? TokenKind.word : TokenKind.number;
    tokens.push({ text, normal: normalize(text), offset, length, kind });
  }
  return tokens;
}

export function countCodePoints(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** A number inside a word is part of it (mp3 is one word), and a word can begin with digits (3d). */
const tokenPattern =
  /(?<number>\p{Nd}+(?:[.,]\p{Nd}+)*)(?![\p{L}\p{M}])|[\p{L}\p{Nd}][\p{L}\p{M}\p{Nd}]*(?:['’ʼ][\p{L}\p{M}]+)*/gu;
