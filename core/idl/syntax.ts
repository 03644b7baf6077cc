// Parses one IDL file to a syntax tree, with the grammar of @creditkarma/thrift-parser on our own tokens. Grammar
// errors are rewritten to say what was expected and where: the parser's own messages go to the console and name the
// previous token.

import {
  createParser,
  SyntaxType,
  type TextLocation,
  type ThriftDocument,
  type Token,
} from '@creditkarma/thrift-parser';
import { type IdlFile, idlFault } from './fault.ts';
import { type DocComment, index, scanIdl, shown } from './tokens.ts';

export interface SyntaxFile extends IdlFile {
  readonly document: ThriftDocument;
  readonly docs: readonly DocComment[];
}

/** Maximum characters of one file. */
export const FILE_LENGTH_MAX: number = 1024 * 1024;

/** Parses one file without resolving names. @throws KatamariError bad_request with the position of the first error */
export function parseSyntax(file: IdlFile): SyntaxFile {
  if (file.text.length > FILE_LENGTH_MAX) {
    throw idlFault(file, 0, `the file has ${file.text.length} characters, the limit is ${FILE_LENGTH_MAX}: split it`);
  }
  const { tokens, docs } = scanIdl(file);
  const parser = createParser(tokens, (error) => {
    // If the first token is wrong, the parser reports no position.
    const loc = error.loc as TextLocation | undefined;
    throw loc === undefined
      ? unexpected(file, tokens[0], DEFINITION)
      : explain(file, tokens, error.message, loc.start.index);
  });
  return { ...file, document: parser.parse(), docs };
}

/** Returns the last doc comment between two positions; '' for none. */
export function docBetween(file: SyntaxFile, start: number, end: number): string {
  let low = 0;
  let high = file.docs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((file.docs[middle]?.end ?? 0) <= end) low = middle + 1;
    else high = middle;
  }
  const doc = file.docs[low - 1];
  return doc !== undefined && doc.start >= start ? doc.text : '';
}

function explain(file: IdlFile, tokens: readonly Token[], message: string, reported: number): Error {
  // The parser reports the token before the wrong one, unless it has already consumed the wrong one.
  const at = tokens.findIndex((token) => index(token) === reported);
  const isTaken = message.startsWith('FieldType expected') || message.startsWith('IntConstant expected');
  const next = tokens[Math.min(at + 1, tokens.length - 1)];
  const wrong = isTaken && next?.type !== SyntaxType.EOF ? tokens[at] : next;
  return unexpected(file, wrong, EXPECTED.find(([start]) => message.startsWith(start))?.[1] ?? message);
}

function unexpected(file: IdlFile, wrong: Token | undefined, expected: string): Error {
  if (wrong === undefined) return idlFault(file, 0, `expected ${expected}`);
  const isNameWanted = /^(?:a|the(?: new)?) name/.test(expected) && KEYWORD_LIKE.test(wrong.text);
  const hint = isNameWanted ? ', which is a keyword of the IDL; choose another name' : '';
  return idlFault(file, index(wrong), `expected ${expected}, got ${shown(wrong)}${hint}`);
}

const DEFINITION = 'a definition (include, const, typedef, enum, struct, union, exception or service)';
const KEYWORD_LIKE =
  /^(?:list|set|map|bool|byte|i8|i16|i32|i64|double|string|binary|required|optional|true|false|void|oneway|throws|extends)$/;

/** Beginnings of the parser's messages, and the expected syntax to report instead. */
const EXPECTED: readonly (readonly [string, string])[] = [
  ['Invalid start', DEFINITION],
  ['Include statement', 'a file name in quotes after "include"'],
  ['Unable to find identifier for service', 'the name of the service'],
  ['Identifier expected after', 'the name of the service to extend'],
  ['Expected opening', '"{"'],
  ['Struct-like body must begin', '"{"'],
  ['Expected closing', '"}"'],
  ['Closing curly brace', '"}"'],
  ['Struct-like body must end', '"}"'],
  ['Closing paren', '")"'],
  ['Opening paren', '"(" and the parameters'],
  ['Unable to find function identifier', 'the name of the method'],
  ['Const definition', 'the name of the constant'],
  ['Const must be', '"=" and the value of the constant'],
  ['Annotation must have a name', 'the name of an annotation, or ")"'],
  ['Annotation must have a value', 'the value of the annotation in quotes'],
  ['Typedef is', 'the new name of the type'],
  ['Expected identifier for enum', 'the name of the enum'],
  ['EnumMember must', 'the name of a value, or "}"'],
  ['Equals token', 'a whole number after "="'],
  ['Struct-like must have', 'a name'],
  ['Unable to find identifier for field', 'the name of the field'],
  ['Closing brace missing', '"}"'],
  ['Closing square-bracket', '"]"'],
  ['Key expected', 'a key'],
  ['Semicolon expected after key', '":" and the value of that key'],
  ['Map needs', '"<" and ">" around the types'],
  ['Comma expected', '"," between the types of key and value'],
  ['FieldType expected', 'a type'],
  ['IntConstant expected', 'a whole number'],
];
