import { describe, expect, test } from 'vitest';
import { runChaos } from '../../kit/chaos/chaos.ts';

const SECONDS = Number(process.env['KATAMARI_CHAOS_S'] ?? 45);
const SEED = Number(process.env['KATAMARI_CHAOS_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

describe('A whole mesh of many machines under random faults', () => {
  // `npm run chaos` is the long run with all figures.
  test(
    'settles every call, runs none twice, answers right from indices, explains every failure, and is whole again',
    async () => {
      // Partitions are possible in namespaces only, which need root; cut.test.ts insists on them.
      const network = process.getuid?.() === 0 ? 'namespaces' : 'loopback';
      const said: string[] = [];
      console.log(`chaos: ${SECONDS} s on ${network}, KATAMARI_CHAOS_SEED=${SEED}`);
      const report = await runChaos({
        seconds: SECONDS,
        clients: 32,
        seed: SEED,
        network,
        onProgress: ({ secondsLeft, sent, failed, news }) => {
          if (news !== '') said.push(`${secondsLeft.toFixed(1)} s left, ${sent} calls, ${failed} failed: ${news}`);
        },
      });
      const { violations, ...figures } = report;
      console.log(`chaos: ${JSON.stringify(figures)}`);
      if (violations.length > 0) console.log(said.join('\n'));
      expect(violations).toEqual([]);
      expect(report.ends['ok']).toBeGreaterThan(0);
      expect(report.indices.ends['ok']).toBeGreaterThan(0);
      expect(Object.keys(report.faults).length).toBeGreaterThan(2);
    },
    (SECONDS + 400) * 1_000,
  );
});
