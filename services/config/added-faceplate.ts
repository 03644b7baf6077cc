// A faceplate that the user adds under `faceplates:` in katamari.yaml.

/** One entry of `faceplates`. */
export interface AddedFaceplate {
  readonly name: string;
  /** A file (`./`, `../`, `/`, `~/`), from the configuration file's place, or a package. */
  readonly module: string;
  readonly port: number;
  readonly options: Readonly<Record<string, unknown>>;
  /** Of the configuration file. */
  readonly directory: string;
  /** Where a key of this entry stands, to begin a message with. */
  readonly where: (path: readonly PropertyKey[]) => string;
}
