// A faceplate that the user adds under `faceplates:` in katamari.yaml.

/** One entry of `faceplates`. */
export interface AddedFaceplate {
  readonly name: string;
  /** A package, or a file (begins with `./`, `../`, `/` or `~/`) relative to the configuration file. */
  readonly module: string;
  readonly port: number;
  readonly options: Readonly<Record<string, unknown>>;
  /** Directory of the configuration file. */
  readonly directory: string;
  /** Returns the location of a key of this entry as the start of a message. */
  readonly where: (path: readonly PropertyKey[]) => string;
}
