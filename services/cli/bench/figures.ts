// Formats the numbers of a bench: three significant digits, thousands separated.

export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** Formats milliseconds, without the unit. */
export function latency(ms: number): string {
  return ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : count(Math.round(ms));
}

/** Formats calls per second, without the unit. */
export function rate(perS: number): string {
  return perS < 100 ? perS.toFixed(1) : count(Math.round(perS));
}

/** Formats a share of 0 to 1 as percent, with the unit. A value above 0 never rounds to 0. */
export function percent(share: number): string {
  const value = share * 100;
  if (value > 0 && value < 0.01) return '<0.01 %';
  return `${Number(value.toFixed(value < 10 ? 2 : 1))} %`;
}
