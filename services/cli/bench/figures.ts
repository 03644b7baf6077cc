// How a bench writes numbers: three digits that mean something, thousands apart.

export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** Milliseconds, without the unit. */
export function latency(ms: number): string {
  return ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : count(Math.round(ms));
}

/** Calls a second, without the unit. */
export function rate(perS: number): string {
  return perS < 100 ? perS.toFixed(1) : count(Math.round(perS));
}

/** A share of 0 to 1 in percent, with the unit. What is not nothing is never shown as nothing. */
export function percent(share: number): string {
  const value = share * 100;
  if (value > 0 && value < 0.01) return '<0.01 %';
  return `${Number(value.toFixed(value < 10 ? 2 : 1))} %`;
}
