// What a changed configuration means for a running process: which settings it applies, and which need a restart.

import type { LoadedConfig } from './config.ts';

/** Keys of settings, as `katamari config` shows them; deployments by `Service@version`. */
export interface ConfigChanges {
  /** Applied while the process runs. */
  readonly live: readonly string[];
  /** In effect after a restart. */
  readonly restart: readonly string[];
}

/**
 * Compares configurations.
 * @param started that with which the process has started; settings that need a restart are compared with it
 * @param applied that of which the live settings are in effect
 */
export function compareConfigs(started: LoadedConfig, applied: LoadedConfig, next: LoadedConfig): ConfigChanges {
  const keys = (from: LoadedConfig): string[] => differentKeys(from, next).filter((key) => !/^deployments\b/.test(key));
  return {
    live: [...new Set(keys(applied).filter(isLive).map(routeOf)), ...differentDeployments(applied, next)],
    restart: keys(started).filter((key) => !isLive(key)),
  };
}

function isLive(key: string): boolean {
  return key === 'timeout' || key.startsWith('routes.');
}

/** Shortens `routes.Shop.weights["1.0.0"]` to the route. */
function routeOf(key: string): string {
  return key.startsWith('routes.') ? key.replace(/\.weights\b.*$/, '') : key;
}

function differentKeys(before: LoadedConfig, next: LoadedConfig): string[] {
  const [old, now] = [valuesOf(before), valuesOf(next)];
  return [...new Set([...old.keys(), ...now.keys()])].filter((key) => old.get(key) !== now.get(key));
}

/** The settings by key. Secrets are masked there, so their values come from the configuration. */
function valuesOf({ settings, config }: LoadedConfig): ReadonlyMap<string, string> {
  const values = new Map(settings.map(({ key, value }) => [key, value]));
  values.set('link.secret', config.link.secret);
  values.set('admin.token', config.admin.token);
  values.set('consul.token', config.consul.token);
  return values;
}

function differentDeployments(before: LoadedConfig, next: LoadedConfig): string[] {
  const [old, now] = [before, next].map(
    ({ config }) => new Map(config.deployments.map((one) => [one.id, JSON.stringify(one)])),
  ) as [Map<string, string>, Map<string, string>];
  return [...new Set([...old.keys(), ...now.keys()])].filter((id) => old.get(id) !== now.get(id));
}
