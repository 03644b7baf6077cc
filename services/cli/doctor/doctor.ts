// `katamari doctor` checks whether this machine can run the configured mesh, and gives advice if it cannot. It
// leaves no changes: it opens ports for a moment, writes and deletes one file, starts and stops one shell, and
// removes what it writes to Consul. With `--security` it checks how well the mesh is protected instead.

import { EXIT, type ExitError, type ExitCode, type Config, type LoadedConfig } from '../../config/mod.ts';
import { loadFor, type ConfigOptions, type CliContext } from '../kit/context.ts';
import { paint, printable, wrapped, type Terminal } from '../kit/terminal.ts';
import { CHAIN_BYTES_MAX, checkAuditLog } from './audit.ts';
import { examineConsul } from './consul.ts';
import type { Finding } from './finding.ts';
import { checkFleet } from './fleet.ts';
import { checkDataDir, checkOpenFiles, checkPorts, checkRuntime, checkShell, checkSocketDir } from './machine.ts';
import { checkDeployments, checkRoutes } from './mesh.ts';
import { checkSecretFiles } from './secrets.ts';
import { examineSecurity, ownUser } from './security.ts';

export interface DoctorOptions extends ConfigOptions {
  readonly json?: boolean | undefined;
  readonly security?: boolean | undefined;
}

export async function runDoctor(context: CliContext, options: DoctorOptions): Promise<ExitCode> {
  const { terminal } = context;
  const findings = await examine(context, options);
  const failed = findings.filter(({ verdict }) => verdict === 'FAIL').length;
  if (options.json === true) terminal.write(`${JSON.stringify({ isHealthy: failed === 0, findings }, null, 2)}\n`);
  else {
    terminal.write(`${findings.flatMap((finding) => formatFinding(terminal, finding)).join('\n')}\n\n`);
    const warnings = findings.filter(({ verdict }) => verdict === 'warn').length;
    const good = options.security === true ? 'No problem found' : 'This mesh can run here';
    const result = failed === 0 ? good : `${failed} of ${countOf(findings.length, 'check')} failed`;
    terminal.write(`${result}${warnings > 0 ? `; ${countOf(warnings, 'warning')}` : ''}.\n`);
  }
  return failed === 0 ? EXIT.done : EXIT.failed;
}

async function examine(context: CliContext, options: DoctorOptions): Promise<Finding[]> {
  const { cwd, env } = context;
  const isSecurity = options.security === true;
  const findings = isSecurity ? [] : [checkRuntime(), await checkShell()];
  let loaded: LoadedConfig;
  try {
    loaded = loadFor(context, options);
  } catch (error) {
    // All further checks need a configuration.
    const lines = (error as ExitError).message.split('\n');
    return [
      ...findings,
      ...lines.map((text): Finding => ({ verdict: 'FAIL', subject: 'configuration', text, advice: '' })),
    ];
  }
  if (isSecurity) return examineSecurity(loaded, { cwd, env, nowMs: Date.now(), user: ownUser() });
  const { config, file, warnings } = loaded;
  findings.push(
    file === undefined
      ? {
          verdict: 'warn',
          subject: 'configuration',
          text: 'no katamari.yaml in this directory',
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
    ...checkSecretFiles(config),
    checkSocketDir(),
    await checkOpenFiles(config),
    ...(await checkPorts(config)),
    ...(await examineConsulAndFleet(config, env)),
    ...checkDeployments(loaded, env),
    ...checkRoutes(loaded),
    ...(await checkAuditLog(config, CHAIN_BYTES_MAX)),
  );
  return findings;
}

async function examineConsulAndFleet(config: Config, env: NodeJS.ProcessEnv): Promise<Finding[]> {
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
  const color = verdict === 'OK' ? 'green' : verdict === 'warn' ? 'yellow' : 'red';
  const [first = '', ...rest] = wrapped(terminal, printable(`${subject}: ${text}`), INDENT);
  const lines = [`${paint(terminal, color, verdict.padEnd(4))}  ${first}`, ...rest.map((line) => `${PAD}${line}`)];
  if (advice === '') return lines;
  const [head = '', ...tail] = wrapped(terminal, printable(advice), INDENT + ARROW.length + 1);
  const arrow = paint(terminal, 'dim', ARROW);
  return [...lines, `${PAD}${arrow} ${head}`, ...tail.map((line) => `${PAD}${' '.repeat(ARROW.length + 1)}${line}`)];
}

/** Columns of the verdict and of the space behind it. */
const INDENT = 6;
const PAD = ' '.repeat(INDENT);
const ARROW = '->';
