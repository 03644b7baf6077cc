// Splits Markdown files into sections and prints each as a line of JSON: documents for `katamari index build`. Text is
// indexed, and the number of the line is only stored.
//
//     sections.ts FOLDER... > sections.ndjson

import { readdirSync, readFileSync } from 'node:fs';

interface Section {
  readonly path: string;
  readonly heading: string;
  /** The line of the heading, from 1. */
  readonly line: number;
  readonly text: string;
}

for (const folder of process.argv.slice(2)) {
  for (const name of readdirSync(folder).sort()) {
    if (!name.endsWith('.md')) continue;
    const path = `${folder.replace(/\/$/, '')}/${name}`;
    for (const section of sectionsOf(path, readFileSync(path, 'utf8'))) {
      process.stdout.write(`${JSON.stringify(section)}\n`);
    }
  }
}

function sectionsOf(path: string, markdown: string): Section[] {
  const sections: { heading: string; line: number; lines: string[] }[] = [];
  let isCode = false;
  for (const [index, text] of markdown.split('\n').entries()) {
    if (text.startsWith('```')) isCode = !isCode;
    // A `#` in a code block begins a comment.
    const heading = isCode ? undefined : /^#+ (.*)/.exec(text)?.[1];
    if (heading === undefined) sections.at(-1)?.lines.push(text);
    else sections.push({ heading, line: index + 1, lines: [] });
  }
  return sections.map(({ heading, line, lines }) => ({ path, heading, line, text: lines.join('\n').trim() }));
}
