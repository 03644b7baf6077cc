// `katamari config` prints the effective configuration and the source of each value.

import { ExitError, EXIT, type ExitCode, type EffectiveSetting, didYouMean } from '../../config/mod.ts';
import { loadFor, type ConfigOptions, type CliContext } from '../kit/context.ts';
import { formatTable, type Column } from '../kit/terminal.ts';

export function runConfig(
  context: CliContext,
  below: string | undefined,
  options: ConfigOptions & { readonly json?: boolean },
): ExitCode {
  const { terminal } = context;
  const { settings, warnings, file } = loadFor(context, options);
  const shown =
    below === undefined
      ? settings
      : settings.filter(({ key }) => key === below || key.startsWith(`${below}.`) || key.startsWith(`${below}[`));
  if (shown.length === 0) {
    const keys = settings.flatMap(({ key }) => [key, key.replace(/[.[].*$/, '')]);
    throw new ExitError(
      EXIT.usage,
      `${JSON.stringify(below)} is not a key of the configuration${didYouMean(below ?? '', keys) || '; `katamari config` lists them'}`,
    );
  }
  if (options.json === true) {
    terminal.write(`${JSON.stringify({ file: file ?? null, settings: shown, warnings }, null, 2)}\n`);
    return EXIT.done;
  }
  terminal.write(`${formatTable(terminal, COLUMNS, shown).join('\n')}\n`);
  if (file === undefined)
    terminal.writeError('No configuration file. Values without a variable or flag are defaults.\n');
  for (const warning of warnings) terminal.writeError(`Warning: ${warning}\n`);
  return EXIT.done;
}

const COLUMNS: readonly Column<EffectiveSetting>[] = [
  { head: 'KEY', text: ({ key }) => key },
  { head: 'VALUE', text: ({ value }) => value },
  { head: 'FROM', text: ({ from }) => from, color: ({ from }) => (from === 'default' ? 'dim' : 'green') },
];
