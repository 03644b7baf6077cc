// Checks of the configuration: the programs of chassis, their interfaces, and routes.

import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { type ConfiguredDeployment, type LoadedConfig, didYouMean } from '../../config/mod.ts';
import { versionsOfRoute, whyNoHealthCheck } from '../../mesh/mod.ts';
import type { Finding } from './finding.ts';
import path from 'node:path';

export function checkDeployments({ config, where }: LoadedConfig, env: NodeJS.ProcessEnv): Finding[] {
  return config.deployments.flatMap((deployment, index) => {
    const at = (key: string): string => where(['deployments', index, key]).replace(/: .*$/, '');
    return [checkCommand(deployment, env, at), ...checkIdl(deployment, at)];
  });
}

export function checkRoutes({ config, where }: LoadedConfig): Finding[] {
  return Object.entries(config.routes).flatMap(([service, route]) => {
    const versions = config.deployments
      .filter((deployment) => deployment.service === service)
      .map(({ version }) => version);
    return versionsOfRoute(route)
      .filter((version) => !versions.includes(version))
      .map((version): Finding => ({
        verdict: 'warn',
        subject: `route ${service}`,
        text: `${where(Object.hasOwn(route.weights, version) ? ['routes', service, 'weights', version] : ['routes', service])}: no deployment has this version${didYouMean(version, versions)}`,
        advice: 'correct the version, unless another machine runs it',
      }));
  });
}

function checkCommand(
  { id, command, cwd, env: own }: ConfiguredDeployment,
  env: NodeJS.ProcessEnv,
  at: (key: string) => string,
): Finding {
  const subject = `chassis ${id}`;
  const [program = '', first = ''] = command;
  if (!isDirectory(cwd))
    return { verdict: 'FAIL', subject, text: `${at('cwd')}: ${cwd} is not a directory`, advice: 'correct cwd' };
  const found = findProgram(program, cwd, own['PATH'] ?? env['PATH'] ?? '');
  if (typeof found === 'object')
    return { verdict: 'FAIL', subject, text: `${at('command')}: ${found.why}`, advice: found.advice };
  // Without this check, a missing script shows only as a chassis that does not start.
  const script = [first, command.at(-1) ?? ''].find((word) => /\.[cm]?[jt]s$|\.py$|\.rb$/.test(word));
  if (script !== undefined && !existsSync(path.resolve(cwd, script))) {
    return {
      verdict: 'FAIL',
      subject,
      text: `${at('script')}: ${path.resolve(cwd, script)} does not exist`,
      advice: 'correct script or command; script is relative to the configuration, arguments of command to cwd',
    };
  }
  return { verdict: 'OK', subject, text: `${found}${script === undefined ? '' : ` ${script}`}`, advice: '' };
}

function checkIdl(
  { id, service, idl, includes, healthCheck }: ConfiguredDeployment,
  at: (key: string) => string,
): Finding[] {
  if (idl === '') return [];
  const subject = `IDL ${id}`;
  try {
    const { services } = parseIdl(readIdlFile(idl, includes));
    const offered = services.get(service);
    const why = offered === undefined || healthCheck === '' ? undefined : whyNoHealthCheck(offered, healthCheck);
    if (why !== undefined)
      return [
        {
          verdict: 'FAIL',
          subject,
          text: `${at('healthCheck')}: healthCheck: ${why}`,
          advice: 'name another method, or remove healthCheck',
        },
      ];
    if (offered !== undefined) return [{ verdict: 'OK', subject, text: idl, advice: '' }];
    const names = [...services.keys()];
    return [
      {
        verdict: 'FAIL',
        subject,
        text: `${idl} has no service ${service}${didYouMean(service, names) || `; it has ${names.join(', ') || 'none'}`}`,
        advice: 'correct service or idl',
      },
    ];
  } catch (error) {
    return [{ verdict: 'FAIL', subject, text: `${at('idl')}: ${describe(error)}`, advice: '' }];
  }
}

/**
 * Returns the file that would run, resolved as the operating system does: a name with a slash from `cwd`, else along
 * PATH.
 */
function findProgram(program: string, cwd: string, pathList: string): string | { why: string; advice: string } {
  const places = program.includes('/')
    ? [path.resolve(cwd, program)]
    : pathList.split(path.delimiter).map((folder) => path.resolve(cwd, folder, program));
  const there = places.filter((file) => existsSync(file) && !isDirectory(file));
  const runnable = there.find((file) => isExecutable(file));
  if (runnable !== undefined) return runnable;
  const [file] = there;
  if (file !== undefined) return { why: `${file} is not executable`, advice: `chmod +x ${file}` };
  return program.includes('/')
    ? {
        why: `${places[0] ?? program} does not exist`,
        advice: 'correct command; a path with a slash is relative to cwd',
      }
    : { why: `no program "${program}" on PATH`, advice: 'install it, or write its path' };
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isDirectory(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function describe(error: unknown): string {
  const { message, code } = error as Error & { code?: string };
  return message || code || String(error);
}
