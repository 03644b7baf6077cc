// Scans IDL text to tokens for the grammar of @creditkarma/thrift-parser. That package's own scanner is not used: it
// fails on `namespace *`, negative hex numbers, `+5` and `.5`, takes fields named `constructor` for keywords, does
// not unescape \n in strings, and reports wrong columns after comments. This scanner also removes syntax that is
// obsolete or has no meaning here (namespaces, cpp_include, xsd_*), so the grammar does not see it. Tokens keep their
// index, so positions stay correct.

import { SyntaxType, type TextLocation, type Token } from '@creditkarma/thrift-parser';
import { hasEscapes } from '../thrift/mod.ts';
import { type IdlFile, idlFault, quote } from './fault.ts';

/** A `/** ... *\/` comment: its position, and its text without the stars. */
export interface DocComment {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

export interface Scanned {
  /** Tokens, including the end-of-file token. Every `loc.start.index` is a position in the file. */
  readonly tokens: Token[];
  readonly docs: readonly DocComment[];
}

/** Maximum nesting of brackets. Deeper text is refused before the recursive grammar sees it. */
export const NESTING_MAX = 64;

/** Maximum characters of a number, because parsing very long ones is slow. */
export const NUMBER_LENGTH_MAX = 400;

export function scanIdl(file: IdlFile): Scanned {
  const { tokens, docs } = scan(file);
  return { tokens: normalize(file, tokens), docs };
}

const PATTERN =
  /(?<space>\s+)|(?<comment>\/\/[^\n]*|#[^\n]*|\/\*[\s\S]*?\*\/)|(?<word>[A-Za-z_](?:[.-]?[A-Za-z_0-9])*)|(?<hex>[+-]?0[xX][0-9A-Fa-f]+)|(?<number>[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)|(?<mark>[{}()[\]<>,;:=*&])/uy;

function scan(file: IdlFile): { tokens: Token[]; docs: DocComment[] } {
  const { text } = file;
  const tokens: Token[] = [];
  const docs: DocComment[] = [];
  const pattern = new RegExp(PATTERN);
  let at = text.startsWith('\uFEFF') ? 1 : 0;
  while (at < text.length) {
    const first = text[at];
    if (first === '"' || first === "'") {
      const literal = scanString(file, at, first);
      tokens.push(token(SyntaxType.StringLiteral, literal.value, at, literal.end));
      at = literal.end;
      continue;
    }
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match === null) throw unreadable(file, at);
    const end = at + match[0].length;
    const { comment, word, hex, number, mark } = match.groups ?? {};
    if ((hex ?? number ?? '').length > NUMBER_LENGTH_MAX) {
      throw idlFault(file, at, `a number of ${end - at} characters, the limit is ${NUMBER_LENGTH_MAX}`);
    }
    if (comment !== undefined) {
      if (comment.startsWith('/**') && comment.length > 4) docs.push({ start: at, end, text: docText(comment) });
    } else if (word !== undefined) {
      tokens.push(token(KEYWORDS.get(word) ?? SyntaxType.Identifier, word, at, end));
    } else if (hex !== undefined) {
      tokens.push(token(SyntaxType.HexLiteral, hex.replace('+', ''), at, end));
    } else if (number !== undefined) {
      const type = /^[+-]?\d+$/.test(number) ? SyntaxType.IntegerLiteral : SyntaxType.FloatLiteral;
      tokens.push(token(type, number.replace(/^\+/, ''), at, end));
    } else if (mark !== undefined && mark !== '&') {
      tokens.push(token(MARKS.get(mark) ?? SyntaxType.StarToken, mark, at, end));
    }
    at = end;
  }
  tokens.push(token(SyntaxType.EOF, '', text.length, text.length));
  return { tokens, docs };
}

function unreadable(file: IdlFile, at: number): Error {
  if (file.text.startsWith('/*', at)) return idlFault(file, at, 'this comment never ends, close it with */');
  const char = String.fromCodePoint(file.text.codePointAt(at) ?? 0);
  if (char === '@') {
    const advice = 'remove it, or write (name = "value") after the definition';
    return idlFault(file, at, `annotations with @ belong to fbthrift, not to Apache Thrift: ${advice}`);
  }
  return idlFault(file, at, `${quote(char)} has no meaning in Thrift IDL, remove it or put it into quotes`);
}

function scanString(file: IdlFile, start: number, mark: string): { value: string; end: number } {
  const { text } = file;
  let value = '';
  let from = start + 1;
  for (let at = from; at < text.length; at++) {
    const char = text[at];
    if (char === mark) {
      value += text.slice(from, at);
      if (hasEscapes(value)) throw idlFault(file, start, 'this string is not UTF-8, save the file in that encoding');
      return { value, end: at + 1 };
    }
    if (char === '\n') break;
    if (char !== '\\') continue;
    const escaped = ESCAPES[text[at + 1] ?? ''];
    if (escaped === undefined) {
      throw idlFault(
        file,
        at,
        `unknown escape ${quote(text.slice(at, at + 2))} in a string; known: \\n \\r \\t \\" \\' \\\\`,
      );
    }
    value += text.slice(from, at) + escaped;
    from = at + 2;
    at++;
  }
  throw idlFault(file, start, `this string never ends, close it with ${mark} on the same line`);
}

/**
 * Removes tokens without meaning here and normalizes synonyms: `async` becomes `oneway`, `slist` becomes `string`,
 * `0x1:` becomes `1:`, and elements of constant lists and maps are separated by commas.
 */
function normalize(file: IdlFile, tokens: readonly Token[]): Token[] {
  const out: Token[] = [];
  const open: Token[] = [];
  const at = (i: number): Token => tokens[Math.max(0, Math.min(i, tokens.length - 1))] as Token;
  for (let i = 0; i < tokens.length; i++) {
    const token = at(i);
    const next = at(i + 1);
    if (OPENERS.has(token.type)) {
      open.push(token);
      if (open.length > NESTING_MAX)
        throw idlFault(file, index(token), `brackets are nested deeper than ${NESTING_MAX} levels`);
    } else if (CLOSERS.has(token.type)) open.pop();

    if (open.length > 0 && isWord(token) && isName(at(i - 2), at(i - 1), token, next)) {
      out.push({ ...token, type: SyntaxType.Identifier });
      continue;
    }
    if (token.type === SyntaxType.NamespaceKeyword) {
      i = skipNamespace(file, tokens, i);
      continue;
    }
    if (token.type === SyntaxType.SenumKeyword) {
      throw idlFault(file, index(token), 'senum is not supported, use an enum, or a string');
    }
    if (token.type === SyntaxType.Identifier && next.type === SyntaxType.LessThanToken) {
      throw idlFault(file, index(next), `${quote(token.text)} takes no types in <>, only list, set and map do`);
    }
    if (token.text.includes('-') && token.type === SyntaxType.Identifier) {
      throw idlFault(
        file,
        index(token),
        `${quote(token.text)} is not a name, use letters, digits and underscores only`,
      );
    }
    if (
      token.type === SyntaxType.CppIncludeKeyword ||
      (OLD_PAIRS.has(token.text) && token.type === SyntaxType.Identifier)
    ) {
      // These words take one argument: cpp_include "x", cpp_type "x", php_namespace X.
      if (next.type !== SyntaxType.StringLiteral && next.type !== SyntaxType.Identifier) {
        throw idlFault(file, index(next), `expected a quoted text after ${token.text}, got ${shown(next)}`);
      }
      i++;
      continue;
    }
    if (OLD_WORDS.has(token.text) && token.type === SyntaxType.Identifier) {
      if (token.text === 'xsd_attrs' && next.type === SyntaxType.LeftBraceToken) i = skipGroup(file, tokens, i + 1);
      continue;
    }
    if (open.length === 0 && SEPARATORS.has(token.type)) continue;
    if (token.text === 'async' && next.type === SyntaxType.VoidKeyword) {
      out.push({ ...token, type: SyntaxType.OnewayKeyword, text: 'oneway' });
    } else if (token.text === 'slist' && token.type === SyntaxType.Identifier) {
      out.push({ ...token, type: SyntaxType.StringKeyword, text: 'string' });
    } else if (token.type === SyntaxType.HexLiteral && next.type === SyntaxType.ColonToken) {
      out.push({ ...token, type: SyntaxType.IntegerLiteral, text: String(Number(token.text)) });
    } else if (token.type === SyntaxType.EqualToken) {
      out.push(token);
      if (!VALUE_STARTS.has(next.type)) {
        throw idlFault(file, index(next), `expected a value after "=", got ${shown(next)}`);
      }
      if (OPENERS.has(next.type)) i = copyConstant(file, tokens, i + 1, out, open.length);
    } else out.push(token);
  }
  return out;
}

/** Whether the token could be a name. Keywords can, except `true` and `false`, which are always values. */
function isWord({ type, text }: Token): boolean {
  return type === SyntaxType.Identifier ? !text.includes('-') : KEYWORDS.has(text) && !VALUE_STARTS.has(type);
}

/**
 * Whether a keyword is the name of a field, such as `service` or `list`. The token between a type and the end of a
 * field can only be its name.
 */
function isName(beforeThat: Token, before: Token, token: Token, next: Token): boolean {
  // Definitions do not nest, so a weaker check is enough for their keywords.
  if (DEFINERS.has(token.type) && TYPE_ENDS.has(before.type)) {
    return next.type !== SyntaxType.Identifier && next.type !== SyntaxType.StringLiteral;
  }
  // After `1: T` the type is complete. Without an id, T could be the name of the previous field.
  const isTyped =
    before.type === SyntaxType.Identifier ? TYPE_OPENERS.has(beforeThat.type) : TYPE_ENDS.has(before.type);
  return isTyped && FIELD_ENDS.has(next.type);
}

/** Skips `namespace SCOPE NAME (annotations)`, which has no meaning here. Returns the index of its last token. */
function skipNamespace(file: IdlFile, tokens: readonly Token[], from: number): number {
  const [keyword, scope, name, after] = [0, 1, 2, 3].map((k) => tokens[Math.min(from + k, tokens.length - 1)] as Token);
  if (keyword === undefined || scope === undefined || name === undefined) return from;
  if (scope.type !== SyntaxType.Identifier && scope.type !== SyntaxType.StarToken) {
    throw idlFault(file, index(scope), `expected a language or * after "namespace", got ${shown(scope)}`);
  }
  if (name.type !== SyntaxType.Identifier && name.type !== SyntaxType.StringLiteral) {
    throw idlFault(file, index(name), `expected a name after "namespace ${scope.text}", got ${shown(name)}`);
  }
  return after?.type === SyntaxType.LeftParenToken ? skipGroup(file, tokens, from + 3) : from + 2;
}

/** Returns the index of the bracket that closes the one at `from`. */
function skipGroup(file: IdlFile, tokens: readonly Token[], from: number): number {
  let depth = 0;
  for (let i = from; i < tokens.length; i++) {
    const { type } = tokens[i] as Token;
    if (OPENERS.has(type)) depth++;
    else if (CLOSERS.has(type) && --depth === 0) return i;
  }
  throw idlFault(file, index(tokens[from] as Token), 'this bracket is never closed');
}

/** Copies a constant list or map with its elements separated by commas. Returns the index of its last token. */
function copyConstant(file: IdlFile, tokens: readonly Token[], from: number, out: Token[], depth: number): number {
  const outside = depth;
  let isAfterValue = false;
  for (let i = from; i < tokens.length; i++) {
    const token = tokens[i] as Token;
    if (SEPARATORS.has(token.type) && isAfterValue) {
      out.push({ ...token, type: SyntaxType.CommaToken });
      isAfterValue = false;
    } else if (token.type === SyntaxType.ColonToken && isAfterValue) {
      out.push(token);
      isAfterValue = false;
    } else if (VALUE_STARTS.has(token.type)) {
      if (isAfterValue) out.push({ ...token, type: SyntaxType.CommaToken, text: ',' });
      out.push(token);
      isAfterValue = !OPENERS.has(token.type);
      if (!isAfterValue && ++depth > NESTING_MAX) {
        throw idlFault(file, index(token), `brackets are nested deeper than ${NESTING_MAX} levels`);
      }
    } else if (token.type === SyntaxType.RightBraceToken || token.type === SyntaxType.RightBracketToken) {
      out.push(token);
      isAfterValue = true;
      if (--depth === outside) return i;
    } else throw idlFault(file, index(token), `expected a value, got ${shown(token)}`);
  }
  throw idlFault(file, index(tokens[from] as Token), 'this bracket is never closed');
}

/** Quotes a token for error messages. */
export function shown(token: Token): string {
  if (token.type === SyntaxType.EOF) return 'the end of the file';
  return quote(token.text);
}

export function index(node: { readonly loc: TextLocation }): number {
  return node.loc.start.index;
}

function token(type: SyntaxType, text: string, start: number, end: number): Token {
  // Line and column are computed from the index for error messages (fault.ts).
  return { type, text, loc: { start: place(start), end: place(end) } };
}

function place(index: number): TextLocation['start'] {
  return { line: 0, column: 0, index };
}

function docText(comment: string): string {
  return comment
    .slice(3, -2)
    .split('\n')
    .map((line) => line.replace(/^[ \t]*\*? ?/, '').trimEnd())
    .join('\n')
    .trim();
}

const ESCAPES: Readonly<Record<string, string>> = Object.assign(Object.create(null) as Record<string, string>, {
  n: '\n',
  r: '\r',
  t: '\t',
  '"': '"',
  "'": "'",
  '\\': '\\',
});

/** Obsolete keywords with an argument. */
const OLD_PAIRS: ReadonlySet<string> = new Set([
  'cpp_type',
  'cpp_namespace',
  'php_namespace',
  'py_module',
  'perl_package',
  'ruby_namespace',
  'smalltalk_category',
  'smalltalk_prefix',
  'java_package',
  'cocoa_prefix',
  'csharp_namespace',
  'delphi_namespace',
  'xsd_namespace',
]);
const OLD_WORDS: ReadonlySet<string> = new Set(['xsd_all', 'xsd_optional', 'xsd_nillable', 'xsd_attrs']);

const MARKS: ReadonlyMap<string, SyntaxType> = new Map([
  ['{', SyntaxType.LeftBraceToken],
  ['}', SyntaxType.RightBraceToken],
  ['(', SyntaxType.LeftParenToken],
  [')', SyntaxType.RightParenToken],
  ['[', SyntaxType.LeftBracketToken],
  [']', SyntaxType.RightBracketToken],
  ['<', SyntaxType.LessThanToken],
  ['>', SyntaxType.GreaterThanToken],
  [',', SyntaxType.CommaToken],
  [';', SyntaxType.SemicolonToken],
  [':', SyntaxType.ColonToken],
  ['=', SyntaxType.EqualToken],
]);
const OPENERS: ReadonlySet<SyntaxType> = new Set([
  SyntaxType.LeftBraceToken,
  SyntaxType.LeftParenToken,
  SyntaxType.LeftBracketToken,
  SyntaxType.LessThanToken,
]);
const CLOSERS: ReadonlySet<SyntaxType> = new Set([
  SyntaxType.RightBraceToken,
  SyntaxType.RightParenToken,
  SyntaxType.RightBracketToken,
  SyntaxType.GreaterThanToken,
]);
const SEPARATORS: ReadonlySet<SyntaxType> = new Set([SyntaxType.CommaToken, SyntaxType.SemicolonToken]);
/** Keywords that begin a definition. */
const DEFINERS: ReadonlySet<SyntaxType> = new Set([
  SyntaxType.NamespaceKeyword,
  SyntaxType.IncludeKeyword,
  SyntaxType.ConstKeyword,
  SyntaxType.StructKeyword,
  SyntaxType.UnionKeyword,
  SyntaxType.ExceptionKeyword,
  SyntaxType.ServiceKeyword,
  SyntaxType.TypedefKeyword,
  SyntaxType.EnumKeyword,
]);
/** Tokens that precede the type of a field. */
const TYPE_OPENERS: ReadonlySet<SyntaxType> = new Set([
  SyntaxType.ColonToken,
  SyntaxType.RequiredKeyword,
  SyntaxType.OptionalKeyword,
]);
/** Tokens that follow the name of a field. */
const FIELD_ENDS: ReadonlySet<SyntaxType> = new Set([
  SyntaxType.CommaToken,
  SyntaxType.SemicolonToken,
  SyntaxType.EqualToken,
  SyntaxType.RightBraceToken,
  SyntaxType.RightParenToken,
  SyntaxType.IntegerLiteral,
]);
const TYPE_ENDS: ReadonlySet<SyntaxType> = new Set([
  SyntaxType.Identifier,
  SyntaxType.BoolKeyword,
  SyntaxType.ByteKeyword,
  SyntaxType.I8Keyword,
  SyntaxType.I16Keyword,
  SyntaxType.I32Keyword,
  SyntaxType.I64Keyword,
  SyntaxType.DoubleKeyword,
  SyntaxType.StringKeyword,
  SyntaxType.BinaryKeyword,
  SyntaxType.GreaterThanToken,
]);
const VALUE_STARTS: ReadonlySet<SyntaxType> = new Set([
  SyntaxType.Identifier,
  SyntaxType.StringLiteral,
  SyntaxType.IntegerLiteral,
  SyntaxType.HexLiteral,
  SyntaxType.FloatLiteral,
  SyntaxType.TrueKeyword,
  SyntaxType.FalseKeyword,
  SyntaxType.LeftBraceToken,
  SyntaxType.LeftBracketToken,
]);
const KEYWORDS: ReadonlyMap<string, SyntaxType> = new Map([
  ['namespace', SyntaxType.NamespaceKeyword],
  ['include', SyntaxType.IncludeKeyword],
  ['cpp_include', SyntaxType.CppIncludeKeyword],
  ['const', SyntaxType.ConstKeyword],
  ['struct', SyntaxType.StructKeyword],
  ['union', SyntaxType.UnionKeyword],
  ['exception', SyntaxType.ExceptionKeyword],
  ['service', SyntaxType.ServiceKeyword],
  ['extends', SyntaxType.ExtendsKeyword],
  ['throws', SyntaxType.ThrowsKeyword],
  ['typedef', SyntaxType.TypedefKeyword],
  ['enum', SyntaxType.EnumKeyword],
  ['senum', SyntaxType.SenumKeyword],
  ['list', SyntaxType.ListKeyword],
  ['set', SyntaxType.SetKeyword],
  ['map', SyntaxType.MapKeyword],
  ['bool', SyntaxType.BoolKeyword],
  ['byte', SyntaxType.ByteKeyword],
  ['i8', SyntaxType.I8Keyword],
  ['i16', SyntaxType.I16Keyword],
  ['i32', SyntaxType.I32Keyword],
  ['i64', SyntaxType.I64Keyword],
  ['double', SyntaxType.DoubleKeyword],
  ['string', SyntaxType.StringKeyword],
  ['binary', SyntaxType.BinaryKeyword],
  ['required', SyntaxType.RequiredKeyword],
  ['optional', SyntaxType.OptionalKeyword],
  ['true', SyntaxType.TrueKeyword],
  ['false', SyntaxType.FalseKeyword],
  ['void', SyntaxType.VoidKeyword],
  ['oneway', SyntaxType.OnewayKeyword],
]);
