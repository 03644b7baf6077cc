import { describe, expect, test } from 'vitest';
import { runSoak } from '../kit/mesh/soak.ts';

describe('The mesh under load', () => {
  // `npm run soak` is the long run with all figures.
  test('settles every call, and fails only calls inside a chassis that was killed, stopped, crashed or hung', async () => {
    const report = await runSoak({ seconds: 10, clients: 32, kills: 10, seed: 20_260_101 });
    expect(report.violations).toEqual([]);
    expect(report.incidents.filter(({ what }) => what.startsWith('SIG')).length).toBe(10);
    expect(new Set(report.incidents.map(({ what }) => what))).toEqual(new Set(['SIGKILL', 'SIGSTOP', 'crash', 'hang']));
    expect(Object.keys(report.byProtocol).sort()).toEqual(['JSON-RPC', 'Thrift framed', 'Thrift unframed']);
    expect(report.ends['ok']).toBeGreaterThan(0);
  }, 180_000);
});
