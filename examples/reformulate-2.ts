// Reformulate 2.0.0: Porter's English stemmer, corrections with up to two edits ranked by probability, synonyms by
// stem too.
import { porter2Stem } from './reformulate/porter2.ts';
import { serveReformulate } from './reformulate/serve.ts';
import { twoEditSpeller } from './reformulate/spelling.ts';
import { stemmingThesaurus } from './reformulate/synonyms.ts';
import { lazily, readWordList } from './reformulate/words.ts';

const words = lazily(readWordList);
await serveReformulate('2.0.0', {
  stem: porter2Stem,
  suggest: twoEditSpeller(words),
  synonyms: stemmingThesaurus(words, porter2Stem),
});
