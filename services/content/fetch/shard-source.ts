// What a source of shards offers, whatever its scheme. There is one file per scheme in sources/; sources/choose.ts
// chooses by the scheme of a URL.

/** A file of a shard. */
export interface ListedFile {
  /** Relative to the shard, with `/`; '' when the shard is this file. */
  readonly path: string;
  readonly bytes: number;
  /** Changes when the file does: its time, its ETag or its hash. */
  readonly stamp: string;
  /** SHA-256 in hexadecimal digits, where the listing has it. */
  readonly sha256?: string;
}

/** A shard in the list of a source. */
export interface FoundShard {
  readonly name: string;
  readonly files: readonly ListedFile[];
}

/** An open file of a source. */
export interface OpenedFile {
  /** The bytes from the position that was asked for to the end. Leaving the loop closes the connection. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** SHA-256 of the whole file in hexadecimal digits, when the source told it with the bytes. */
  readonly sha256?: string | undefined;
}

/** Reads the shards of sources of one scheme. All methods reject with a SourceError. */
export interface ShardSource {
  /** Whether the listing has the SHA-256 of every file: then a file that changes during a fetch is found by it. */
  readonly listsDigests?: boolean;
  /** Lists the shards of a source: each folder or file in it is one. In any order; names are not checked. */
  listShards(source: string): Promise<readonly FoundShard[]>;
  /**
   * When the writer of a source has marked it as finished, as Unix time in ms; undefined without a mark. Sources whose
   * files appear at once, when they are whole, have no such method.
   */
  finishedAtMs?(source: string): Promise<number | undefined>;
  /** Lists the files of one shard, in any order. @param shard URL of the shard */
  listFiles(shard: string): Promise<readonly ListedFile[]>;
  /** Opens a file at a position. @param shard URL of the shard */
  open(shard: string, file: ListedFile, from: number): Promise<OpenedFile>;
  /** Copies a file without reading it. Returns whether that was possible. */
  clone?(shard: string, file: ListedFile, to: string): Promise<boolean>;
}

/** A fault of a source: its owner has to correct it, or it is temporary. */
export class SourceError extends Error {
  override readonly name = 'SourceError';
  /** Whether the same request may succeed a moment later. */
  readonly canPass: boolean;

  constructor(message: string, { canPass = false }: { readonly canPass?: boolean } = {}) {
    super(message);
    this.canPass = canPass;
  }
}
