// The order in which the components of a process end.

import { expect, test } from 'vitest';
import { Components, type Component } from '../../../services/process/components.ts';

function setUp(): { components: Components; ended: string[]; open: (name: string, stage: Component['stage']) => void } {
  const components = new Components();
  const ended: string[] = [];
  return {
    components,
    ended,
    open(name, stage): void {
      const close = (): void => void ended.push(`close ${name}`);
      const drain = async (): Promise<void> => {
        ended.push(`drain ${name}`);
        await new Promise((resolve) => setImmediate(resolve));
        ended.push(`drained ${name}`);
      };
      components.register({ stage, close, drain }, { name, address: `${name}:1`, connections: () => 0 });
    },
  };
}

test('Components.close() ends the stages in reverse order of dependency, whatever the order of opening', async () => {
  const { components, ended, open } = setUp();
  open('consul', 'consul');
  open('manager', 'manager');
  open('link', 'link');
  open('thrift', 'faceplates');
  open('stats', 'presence');
  await components.close();
  expect(ended).toEqual(['close thrift', 'close link', 'close manager', 'close stats', 'close consul']);
});

test('Components.drain() drains one stage in parallel and finishes it before the next', async () => {
  const { components, ended, open } = setUp();
  open('manager', 'manager');
  open('thrift', 'faceplates');
  open('web', 'faceplates');
  await components.drain();
  expect(ended).toEqual([
    'drain thrift',
    'drain web',
    'drained thrift',
    'drained web',
    'drain manager',
    'drained manager',
  ]);
});

test('Components.drain() runs once: repeated calls and calls after close() wait for the first end', async () => {
  const { components, ended, open } = setUp();
  open('thrift', 'faceplates');
  const first = components.drain();
  expect(components.isDraining).toBe(true);
  expect(components.drain()).toBe(first);
  await first;
  await components.close();
  await components.drain();
  expect(ended).toEqual(['drain thrift', 'drained thrift', 'close thrift']);
});

test('Components.drain() closes a component that has nothing to drain', async () => {
  const components = new Components();
  let isClosed = false;
  components.register({ stage: 'fleet', close: () => void (isClosed = true) });
  await components.drain();
  expect(isClosed).toBe(true);
});

test('Components.listeners are those registered, in the order of opening', () => {
  const { components, open } = setUp();
  open('link', 'link');
  components.register({ stage: 'fleet', close: () => undefined });
  open('thrift', 'faceplates');
  expect(components.listeners.map(({ name }) => name)).toEqual(['link', 'thrift']);
});
