// Cuts text that another process has sent, before it becomes part of a message.

/** Returns at most `max` UTF-16 code units of a text, with `...` in place of the rest. No character is cut in two. */
export function clipText(text: string, max: number): string {
  if (text.length <= max) return text;
  const kept = text.slice(0, max - DOTS.length);
  return `${/[\uD800-\uDBFF]$/.test(kept) ? kept.slice(0, -1) : kept}${DOTS}`;
}

const DOTS = '...';
