// The logarithm of the gamma function, which the language lacks. A package for these ten lines would bring a library of
// statistics that nothing else here uses.

/** Returns ln Γ(x) for x > 0, with an error below 1e-11. */
export function logGamma(x: number): number {
  let shift = 0;
  let product = 1;
  // Stirling's series is exact enough from 9 on. Γ(x + 1) = x Γ(x) leads there.
  while (x + shift < 9) product *= x + shift++;
  const z = x + shift;
  const series = 1 / (12 * z) - 1 / (360 * z ** 3) + 1 / (1_260 * z ** 5) - 1 / (1_680 * z ** 7);
  return (z - 0.5) * Math.log(z) - z + HALF_LOG_TWO_PI + series - Math.log(product);
}

const HALF_LOG_TWO_PI = 0.5 * Math.log(2 * Math.PI);
