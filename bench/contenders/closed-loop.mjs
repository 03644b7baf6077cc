// A closed loop with a fixed number of calls in flight: each reply triggers the next call. All client libraries are
// measured with this loop.

/** Prints one line of JSON, as bench/load/load.cc does. */
export async function measure(call, value, inFlight, seconds, warmUp) {
  const from = performance.now() + warmUp * 1000;
  const to = from + seconds * 1000;
  const times = [];
  let wrong = 0;
  const caller = async () => {
    for (;;) {
      const sentAt = performance.now();
      if (sentAt >= to) return;
      const answer = await call(value);
      const at = performance.now();
      if (at < from || at >= to) continue;
      if (answer === value) times.push(at - sentAt);
      else wrong++;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  times.sort((a, b) => a - b);
  const quantile = (q) => (times[Math.min(times.length - 1, Math.floor(q * times.length))] ?? 0) * 1000;
  const answered = times.length + wrong;
  const percentiles = { p50Us: quantile(0.5), p99Us: quantile(0.99), p999Us: quantile(0.999) };
  console.log(JSON.stringify({ seconds, answered, right: times.length, wrong, ...percentiles }));
}
