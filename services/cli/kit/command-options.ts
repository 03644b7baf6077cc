// Building blocks of the command line: options that several commands share, and the form of their help.

import { ExitError, EXIT, type ExitCode, type FlagValue } from '../../config/mod.ts';
import { type Command, Option } from 'commander';

export type SetExitCode = (code: ExitCode) => void;

export function command(program: Command, name: string, description: string): Command {
  const made = program.command(name).description(description).helpOption('-h, --help', 'print this help');
  return made.showHelpAfterError(`(see \`${commandPath(made)} --help\`)`);
}

/** `katamari index add` */
function commandPath(of: Command): string {
  return of.parent === null ? of.name() : `${commandPath(of.parent)} ${of.name()}`;
}

/**
 * Adds the options of commands that read the configuration. Values go to `flags` in the order of the command line;
 * the last one wins.
 */
export function withSettings(of: Command, flags: FlagValue[]): Command {
  of.option('-c, --config <file>', 'configuration file (default: katamari.yaml in the working directory)');
  for (const [name, key, what] of NAMED_FLAGS) {
    of.addOption(
      new Option(`--${name} <value>`, what).argParser(
        (value: string) => void flags.push({ flag: `--${name}`, key, value }),
      ),
    );
  }
  return of.addOption(
    new Option('--set <key=value...>', 'set any key of the configuration, such as limits.frame=32MiB').argParser(
      (text: string) => {
        const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
        if (key === undefined || value === undefined) {
          throw new ExitError(
            EXIT.usage,
            `--set: found ${JSON.stringify(text)}, expected key=value such as limits.frame=32MiB`,
          );
        }
        flags.push({ flag: `--set ${key}`, key, value });
      },
    ),
  );
}

/** Adds the options of commands that start a rollout and wait for it. */
export function withWait(of: Command): Command {
  return of
    .option('--wait <duration>', 'wait at most this long for the change to complete', '5m')
    .option('--no-wait', 'do not wait');
}

/** Adds the options of commands that talk to a running mesh. */
export function withMesh(of: Command): Command {
  return of
    .option('-m, --mesh <url>', 'JSON-RPC address of the mesh (default: KATAMARI_URL, else from the configuration)')
    .option(
      '--token <token>',
      'token of the caller; for admin commands the admin token (default: KATAMARI_TOKEN, a file)',
    )
    .option('-c, --config <file>', 'configuration file of the mesh');
}

export function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}`;
}

const NAMED_FLAGS: readonly (readonly [flag: string, key: string, what: string])[] = [
  ['mesh-name', 'mesh', 'name of the mesh'],
  ['name', 'name', 'name of this process'],
  ['machine', 'machine', 'machine that this process runs on'],
  ['advertise', 'advertise', 'address at which other machines reach this process'],
  ['data-dir', 'dataDir', 'directory for the data of this process'],
  ['host', 'host', 'address to listen on'],
  ['thrift-port', 'ports.thrift', 'port of the Thrift faceplate'],
  ['json-rpc-port', 'ports.jsonRpc', 'port of the JSON-RPC faceplate'],
  ['stats-port', 'ports.stats', 'port of the stats faceplate'],
  ['link-port', 'ports.link', 'port of the manager link'],
  ['consul-port', 'ports.consul', 'port of the embedded Consul'],
  ['consul', 'consul.address', 'use this Consul instead of the embedded one'],
  ['timeout', 'timeout', 'global timeout, such as 10s'],
];
