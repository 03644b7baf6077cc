// Reformulate 1.0.0: Porter's stemmer of 1980, corrections with one edit, synonyms of the exact word.
import { porterStem } from './reformulate/porter.ts';
import { serveReformulate } from './reformulate/serve.ts';
import { oneEditSpeller } from './reformulate/spelling.ts';
import { plainThesaurus } from './reformulate/synonyms.ts';
import { lazily, readWordList } from './reformulate/words.ts';

const words = lazily(readWordList);
await serveReformulate('1.0.0', { stem: porterStem, suggest: oneEditSpeller(words), synonyms: plainThesaurus() });
