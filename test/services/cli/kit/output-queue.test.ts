// Output of a process that serves calls, whatever happens to its reader: the queue with a scripted write, and a whole
// mesh whose output is not read, or closed.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { OutputQueue, type Write } from '../../../../services/cli/kit/output-queue.ts';
import { startMeshProcess, type MeshProcess } from '../../../kit/mesh/mesh-process.ts';
import { fixture, work } from '../../../kit/mesh/mesh.ts';
import { until } from '../../../kit/tools/wait.ts';

describe('OutputQueue', () => {
  /** Collects what is written; each write waits for `end`. */
  function scripted(bytesMax?: number): {
    queue: OutputQueue;
    text: () => string;
    end: (end?: number | string) => void;
  } {
    let text = '';
    let finish: ((end: number | string) => void) | undefined;
    const write = ((_fd: number, bytes: Buffer, from: number, length: number, _at: null, done: Done): void => {
      finish = (end) => {
        finish = undefined;
        if (typeof end === 'string') done(Object.assign(new Error(end), { code: end }), 0);
        else {
          text += bytes.toString('utf8', from, from + end);
          done(null, end);
        }
      };
      lengths.push(length);
    }) satisfies Write;
    const lengths: number[] = [];
    const notice = (lines: number): string => `(${lines} missing)\n`;
    const queue = new OutputQueue({ fd: 1, notice, write, ...(bytesMax === undefined ? {} : { bytesMax }) });
    return { queue, text: () => text, end: (end = lengths.at(-1) ?? 0) => finish?.(end) };
  }
  type Done = Parameters<Write>[5];

  test('writes in order, also when the system takes a part only', async () => {
    const { queue, text, end } = scripted();
    queue.write('one\n');
    queue.write('two\n');
    queue.write('three\n');
    const flushed = queue.flush(10_000);
    end(2);
    end();
    end();
    await flushed;
    expect(text()).toBe('one\ntwo\nthree\n');
  });

  test('drops lines above its bound, and says how many once it writes again', () => {
    const { queue, text, end } = scripted(8);
    queue.write('1234567\n');
    queue.write('abcdefg\n');
    queue.write('x\ny\n');
    expect(queue.dropped).toBe(2);
    end();
    queue.write('more\n');
    end();
    end();
    expect(text()).toBe('1234567\nabcdefg\n(2 missing)\nmore\n');
    expect(queue.dropped).toBe(0);
  });

  test('drops everything once its reader has gone', async () => {
    const { queue, text, end } = scripted();
    queue.write('one\n');
    queue.write('two\n');
    end('EPIPE');
    queue.write('three\n');
    await queue.flush(10_000);
    expect([text(), queue.dropped]).toEqual(['', 3]);
  });

  test('goes on after a full disk, and says what is missing', async () => {
    const { queue, text, end } = scripted();
    queue.write('one\n');
    end('ENOSPC');
    queue.write('two\n');
    await until('the next write', () => (end(), text() !== ''));
    expect(text()).toBe('(1 missing)\ntwo\n');
  });

  test('writes on when a full pipe has room again', async () => {
    const { queue, text, end } = scripted();
    queue.write('one\n');
    end('EAGAIN');
    await until('the next write', () => (end(), text() !== ''));
    expect(text()).toBe('one\n');
  });

  test('does not wait for ever for its last text', async () => {
    const { queue } = scripted();
    queue.write('one\n');
    await queue.flush(10);
  });
});

describe('A mesh', () => {
  let mesh: MeshProcess | undefined;
  afterEach(async () => {
    await mesh?.end();
    mesh = undefined;
  });
  const lines = Array.from({ length: 20_000 }, (_, n) => `line ${n} ${'x'.repeat(100)}`);
  const say = async (text: string): Promise<unknown> => (await mesh?.call('Work.say', [text]))?.result;

  test('whose output is closed keeps serving, and stops gracefully', async () => {
    mesh = await startMeshProcess({ deployments: [work({ count: 2 })] });
    mesh.readOutput('close');
    await mesh.call('Work.lastWords', [lines]);
    expect(await say('hello')).toBe('hello');
    expect(await mesh.stop()).toBe(0);
  });

  test('whose output is not read keeps serving, and says later what is missing', async () => {
    // A second after its start, the chassis prints 8 MB in long lines; then it writes a file.
    const flood = `(sleep 1; yes ${'x'.repeat(1_000)} | head -n 8000; touch flooded) & exec "$@"`;
    const command = ['/bin/sh', '-c', flood, 'sh', ...fixture('work.ts')];
    mesh = await startMeshProcess({ deployments: [work({ command, cwd: '.' })] });
    mesh.readOutput('pause');
    await until('the flood', () => existsSync(path.join((mesh as MeshProcess).directory, 'flooded')));
    expect(await say('hello')).toBe('hello');
    mesh.readOutput('resume');
    await until('the notice', () => /\d+ lines of this output are missing/.test(mesh?.output() ?? ''));
    expect(await mesh.stop()).toBe(0);
  });

  test('that gets SIGHUP keeps serving, and says what has changed', async () => {
    mesh = await startMeshProcess({ deployments: [work()] });
    process.kill(mesh.pid, 'SIGHUP');
    await until('the word', () => mesh?.output().includes('SIGHUP: the configuration has not changed'));
    expect(await say('hello')).toBe('hello');
    expect(await mesh.stop()).toBe(0);
  });
});
