// Builds the shards of an index from files. Documents go to the shards in turn, so that all have about the same number
// and every kind of document. All shards get the same fields. The result appears at once: the files are written to a
// folder beside the output, which is renamed when everything is on the disk.

import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Analyzers } from './analyzer.ts';
import { BuildError, documentsOf, formatOf, type InputRecord } from './build-input.ts';
import { TEXT_LIMITS } from './limits.ts';
import { DOCUMENT_KEY, SCORE_KEY } from './order.ts';
import { ShardWriter } from './shard-writer.ts';
import { DOCUMENT_ID } from './shard-schema.ts';
import type { SqlValue } from './sqlite.ts';

export interface BuildShardsOptions {
  /** Files that end in .ndjson or .jsonl (one JSON object a line), .txt or .md (a paragraph is a document). */
  readonly inputs: readonly string[];
  /** Folder for the shards. It must not exist, or be empty. */
  readonly output: string;
  /** 1 to 4,000. */
  readonly shards: number;
  /**
   * Fields that every shard has: `text` for fields that are stored and indexed, `stored` for fields that are only
   * stored. Fields of documents that are not listed are `text` when one of their values is text. `path` of plain text
   * is `stored` unless listed.
   */
  readonly fields?: Readonly<Record<string, 'text' | 'stored'>>;
  /**
   * The option `tokenize` of FTS5: `unicode61`, `ascii` or `porter`, with options. The default is
   * `unicode61 remove_diacritics 2`.
   */
  readonly tokenizer?: string;
  /** Called now and then, and at the end of each stage. */
  readonly onProgress?: (progress: BuildProgress) => void;
  /** Ends the build; it rejects with the reason and leaves nothing behind. */
  readonly signal?: AbortSignal;
}

export interface BuildProgress {
  readonly stage: 'reading' | 'indexing';
  /** Documents read. */
  readonly documents: number;
  /** Bytes read, of all bytes of the inputs. */
  readonly bytesRead: number;
  readonly bytesToRead: number;
  /** Shards that are finished. */
  readonly shards: number;
}

export interface BuildShardsResult {
  readonly shards: readonly { readonly name: string; readonly documents: number; readonly bytes: number }[];
  readonly documents: number;
  /** Bytes of all shards. */
  readonly bytes: number;
  readonly seconds: number;
}

/**
 * Builds shards named `part-00000` and so on.
 * @throws BuildError for options, files and documents that have to be changed; those of a file name file and line
 */
export async function buildShards(options: BuildShardsOptions): Promise<BuildShardsResult> {
  const startMs = performance.now();
  const bytesToRead = checkOptions(options);
  const output = path.resolve(options.output);
  const folder = `${output}.building-${randomUUID().slice(0, 8)}`;
  try {
    mkdirSync(path.dirname(output), { recursive: true });
    // With the rights that the umask gives: managers often run as another user.
    mkdirSync(folder);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new BuildError(`Cannot make a folder in ${path.dirname(output)} (${code ?? message}); name another output`);
  }
  let build: IndexBuild | undefined;
  try {
    build = new IndexBuild(folder, options, bytesToRead);
    const shards = await build.run();
    // The managers see from its time that no shard is still written.
    writeFileSync(path.join(folder, FINISHED_MARK), '');
    // Replaces an empty folder; one that has been filled meanwhile is an error.
    renameSync(folder, output);
    return {
      shards,
      documents: shards.reduce((sum, { documents }) => sum + documents, 0),
      bytes: shards.reduce((sum, { bytes }) => sum + bytes, 0),
      seconds: (performance.now() - startMs) / 1_000,
    };
  } finally {
    build?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

class IndexBuild {
  readonly #options: BuildShardsOptions;
  readonly #folder: string;
  readonly #bytesToRead: number;
  readonly #writers: ShardWriter[] = [];
  /** Fields in the order in which they were found; replaced when one is added. */
  #fields: readonly string[] = [];
  readonly #places = new Map<string, number>();
  readonly #lowerCase = new Map<string, string>();
  readonly #indexed = new Set<string>();
  #documents = 0;
  #finished = 0;

  constructor(folder: string, options: BuildShardsOptions, bytesToRead: number) {
    this.#folder = folder;
    this.#options = options;
    this.#bytesToRead = bytesToRead;
    for (const [field, kind] of Object.entries(options.fields ?? {})) {
      this.#addField(field, 'options.fields');
      if (kind === 'text') this.#indexed.add(field);
    }
  }

  async run(): Promise<BuildShardsResult['shards']> {
    for (let i = 0; i < this.#options.shards; i++)
      this.#writers.push(new ShardWriter(path.join(this.#folder, nameOf(i)), CACHE_BYTES / this.#options.shards));
    await this.#read();
    if (this.#indexed.size === 0) {
      this.#addField('text', 'the index');
      this.#indexed.add('text');
    }
    const tokenizer = this.#options.tokenizer ?? DEFAULT_TOKENIZER;
    const shards: { name: string; documents: number; bytes: number }[] = [];
    for (const [i, writer] of this.#writers.entries()) {
      this.#options.signal?.throwIfAborted();
      const bytes = await writer.finish(this.#fields, [...this.#indexed], tokenizer);
      shards.push({ name: nameOf(i), documents: writer.documents, bytes });
      this.#finished++;
      this.#tell('indexing', this.#bytesToRead);
    }
    return shards;
  }

  /** Closes what is not finished. */
  close(): void {
    for (const writer of this.#writers) writer.close();
  }

  async #read(): Promise<void> {
    let bytesBefore = 0;
    for (const file of this.#options.inputs) {
      for await (const record of documentsOf(file)) {
        this.#add(record, formatOf(file) === 'text');
        if (this.#documents % TELL_DOCUMENTS !== 0) continue;
        this.#options.signal?.throwIfAborted();
        this.#tell('reading', bytesBefore + record.bytesRead);
        await new Promise((resolve) => setImmediate(resolve));
      }
      bytesBefore += statSync(file).size;
    }
    this.#tell('reading', bytesBefore);
  }

  #add({ document, place }: InputRecord, isText: boolean): void {
    for (const [field, value] of document) {
      if (!this.#places.has(field)) this.#addField(field, place);
      const isStored = this.#options.fields?.[field] === 'stored' || (isText && field === 'path');
      if (typeof value === 'string' && !isStored) this.#indexed.add(field);
    }
    const values: SqlValue[] = Array.from({ length: this.#fields.length }, () => null);
    for (const [field, value] of document) values[this.#places.get(field) as number] = value;
    const shard = this.#documents++ % this.#writers.length;
    (this.#writers[shard] as ShardWriter).add(this.#fields, values);
  }

  #addField(field: string, place: string): void {
    const why = whyNoField(field) ?? this.#whyNoNewField(field);
    if (why !== undefined) throw new BuildError(`${place}: field ${JSON.stringify(field)} ${why}`);
    this.#places.set(field, this.#fields.length);
    this.#lowerCase.set(field.toLowerCase(), field);
    this.#fields = [...this.#fields, field];
  }

  #whyNoNewField(field: string): string | undefined {
    const alike = this.#lowerCase.get(field.toLowerCase());
    if (alike !== undefined) return `differs from "${alike}" only in case, which SQLite does not tell apart`;
    if (this.#fields.length < TEXT_LIMITS.fieldsMax) return undefined;
    return `is one of more than ${TEXT_LIMITS.fieldsMax} different fields`;
  }

  #tell(stage: BuildProgress['stage'], bytesRead: number): void {
    const { onProgress } = this.#options;
    const [documents, bytesToRead, shards] = [this.#documents, this.#bytesToRead, this.#finished];
    onProgress?.({ stage, documents, bytesRead, bytesToRead, shards });
  }
}

/** @returns the bytes of all inputs */
function checkOptions({ inputs, output, shards, tokenizer }: BuildShardsOptions): number {
  if (!Number.isInteger(shards) || shards < 1 || shards > TEXT_LIMITS.shardsMax)
    throw new BuildError(`shards is ${shards}, expected 1 to ${TEXT_LIMITS.shardsMax}`);
  if (inputs.length === 0) throw new BuildError('no file to index; name .ndjson, .jsonl, .txt or .md files');
  if (existsSync(output)) {
    const isFolder = statSync(output).isDirectory();
    if (!isFolder || readdirSync(output).length > 0)
      throw new BuildError(`${output} ${isFolder ? 'is not empty' : 'is a file'}; name a new folder for the shards`);
  }
  try {
    new Analyzers().of(tokenizer ?? DEFAULT_TOKENIZER);
  } catch (error) {
    throw new BuildError((error as Error).message.replace('its tokenizer', 'the tokenizer'));
  }
  let bytes = 0;
  for (const file of inputs) {
    const facts = statSync(file, { throwIfNoEntry: false });
    if (facts?.isFile() !== true)
      throw new BuildError(`${file} ${facts === undefined ? 'does not exist' : 'is no file'}`);
    formatOf(file);
    bytes += facts.size;
  }
  return bytes;
}

function whyNoField(field: string): string | undefined {
  if (field.length > TEXT_LIMITS.fieldNameLengthMax)
    return `has ${field.length} characters, the limit is ${TEXT_LIMITS.fieldNameLengthMax}`;
  if (!FIELD_NAME.test(field))
    return 'cannot be used in queries; expected letters, digits, "_", "." and "-", and a letter or "_" first';
  return RESERVED.has(field.toLowerCase()) ? 'has a name that is taken; rename it' : undefined;
}

function nameOf(shard: number): string {
  return `part-${String(shard).padStart(5, '0')}`;
}

/** Sources of shards ignore it, as they do that of Hadoop jobs. */
const FINISHED_MARK = '_SUCCESS';
const DEFAULT_TOKENIZER = 'unicode61 remove_diacritics 2';
const FIELD_NAME = /^[\p{L}_][\p{L}\p{N}_.-]*$/u;
/** `t`, `rank` and `rowid` are columns that every FTS5 table has. */
const RESERVED: ReadonlySet<string> = new Set([DOCUMENT_ID, SCORE_KEY, DOCUMENT_KEY, 't', 'rank', 'rowid']);
/** Memory for pages of all shards together. */
const CACHE_BYTES = 64 * 1024 * 1024;
const TELL_DOCUMENTS = 1_000;
