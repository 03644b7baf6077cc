// `katamari doctor`: can this machine run the mesh that the configuration describes, and if not, what to do. Changes nothing that
// outlasts it: it listens for a moment, writes and removes one file, starts and ends one shell, and leaves nothing in Consul.

import { EXIT, type ExitError, type ExitCode, type Config, type LoadedConfig } from '../../config/mod.ts';
import { loadFor, type ConfigOptions, type CliContext } from '../kit/context.ts';
import { paint, type Terminal } from '../kit/terminal.ts';
import { examineConsul } from './consul.ts';
import type { Finding } from './finding.ts';
import { checkFleet } from './fleet.ts';
import { checkDataDir, checkOpenFiles, checkPorts, checkRuntime, checkShell, checkTokenFile } from './machine.ts';
import { checkDeployments, checkRoutes } from './mesh.ts';

export async function runDoctor(
  surroundings: CliContext,
  options: ConfigOptions & { readonly json?: boolean },
): Promise<ExitCode> {
  const { terminal } = surroundings;
  const findings = await examine(surroundings, options);
  const failed = findings.filter(({ verdict }) => verdict === 'FAIL').length;
  if (options.json === true) terminal.write(`${JSON.stringify({ isHealthy: failed === 0, findings }, null, 2)}\n`);
  else {
    terminal.write(`${findings.flatMap((finding) => formatFinding(terminal, finding)).join('\n')}\n\n`);
    const warned = findings.filter(({ verdict }) => verdict === 'warn').length;
    terminal.write(
      `${failed === 0 ? 'This mesh can run here' : `${failed} of ${countOf(findings.length, 'check')} failed`}${warned > 0 ? `, ${warned} with a warning` : ''}.\n`,
    );
  }
  return failed === 0 ? EXIT.done : EXIT.failed;
}

async function examine(surroundings: CliContext, options: ConfigOptions): Promise<Finding[]> {
  const findings = [checkRuntime(), await checkShell()];
  let loaded: LoadedConfig;
  try {
    loaded = loadFor(surroundings, options);
  } catch (error) {
    // The rest is about what a configuration says, so it ends here.
    const lines = (error as ExitError).message.split('\n');
    return [
      ...findings,
      ...lines.map((text): Finding => ({ verdict: 'FAIL', subject: 'configuration', text, advice: '' })),
    ];
  }
  const { config, file, warnings } = loaded;
  findings.push(
    file === undefined
      ? {
          verdict: 'warn',
          subject: 'configuration',
          text: 'there is no katamari.yaml here',
          advice: 'name one with --config FILE; `katamari up` needs it',
        }
      : {
          verdict: 'OK',
          subject: 'configuration',
          text: `${file}, ${countOf(config.deployments.length, 'deployment')}`,
          advice: '',
        },
    ...warnings.map((text): Finding => ({ verdict: 'warn', subject: 'environment', text, advice: '' })),
    checkDataDir(config),
    checkTokenFile(config),
    await checkOpenFiles(config),
    ...(await checkPorts(config)),
    ...(await lookIntoConsul(config, surroundings.env)),
    ...checkDeployments(loaded, surroundings.env),
    ...checkRoutes(loaded),
  );
  return findings;
}

async function lookIntoConsul(config: Config, env: NodeJS.ProcessEnv): Promise<Finding[]> {
  const { findings, client } = await examineConsul(config, env);
  if (client === undefined) return [...findings];
  try {
    return [...findings, ...(await checkFleet(config, client))];
  } finally {
    client.close();
  }
}

function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

function formatFinding(terminal: Terminal, { verdict, subject, text, advice }: Finding): string[] {
  const colour = verdict === 'OK' ? 'green' : verdict === 'warn' ? 'yellow' : 'red';
  const line = `${paint(terminal, colour, verdict.padEnd(4))}  ${subject}: ${text}`;
  return advice === '' ? [line] : [line, `      ${paint(terminal, 'dim', '->')} ${advice}`];
}
