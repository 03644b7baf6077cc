// Durations on the command line that are no timers, and so may be longer than those of the configuration: `90d`.

import { parseDuration } from '../../../core/mod.ts';

/** Returns ms; undefined if the text is no duration above 0. */
export function parseLongDuration(text: string): number | undefined {
  const days = /^(\d{1,5})d$/.exec(text)?.[1];
  if (days !== undefined) return Number(days) > 0 ? Number(days) * DAY_MS : undefined;
  const parsed = parseDuration(text);
  return parsed.ok && parsed.value > 0 ? parsed.value : undefined;
}

const DAY_MS = 86_400_000;
