// The commands of `katamari index`: all options, and their help with examples.

import type { Command } from 'commander';
import type { IndexAddOptions, IndexChangeOptions, IndexPinOptions } from './commands/index-admin.ts';
import type { IndexBuildOptions } from './commands/index-build.ts';
import type { IndexSearchOptions } from './commands/index-search.ts';
import type { IndexShowOptions } from './commands/index-show.ts';
import type { IndexStatusOptions } from './commands/index-status.ts';
import type { IndexVerifyOptions } from './commands/index-verify.ts';
import { command, examples, type SetExitCode, withMesh, withWait } from './kit/command-options.ts';
import type { CliContext } from './kit/context.ts';

export function addIndexCommands(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  const group = command(program, 'index', 'add, show and remove sharded indices').addHelpText(
    'after',
    examples(
      'katamari index add wiki@3.0.0 ./wiki-shards --service TextSearch --replicas 2',
      'katamari index status wiki',
      'katamari index remove wiki@2.0.0',
    ),
  );
  addBuild(group, context, setExitCode);
  addSearch(group, context, setExitCode);
  addAdd(group, context, setExitCode);
  addPlan(group, context, setExitCode);
  addStatus(group, context, setExitCode);
  addVerify(group, context, setExitCode);
  addChanges(group, context, setExitCode);
}

function addBuild(group: Command, context: CliContext, setExitCode: SetExitCode): void {
  command(group, 'build', 'make the shards of a text index from files')
    .argument('<files...>', 'files that end in .ndjson, .jsonl, .txt or .md, or folders with such files')
    .requiredOption('--out <folder>', 'folder for the shards; it must not exist, or be empty')
    .option('--shards <count>', 'number of shards', '4')
    .option('--tokenizer <text>', 'the option tokenize of SQLite FTS5, such as "porter unicode61"')
    .option('--json', 'print JSON')
    .action(async (files: string[], options: IndexBuildOptions) =>
      setExitCode(await (await import('./commands/index-build.ts')).runIndexBuild(context, files, options)),
    )
    .addHelpText('after', examples('katamari index build books/ --out ./wiki', 'katamari up --index wiki=./wiki'));
}

function addSearch(group: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(group, 'search', 'search a text index'))
    .argument('<index>', 'name, or name and version; several with commas, patterns with *')
    .argument('<query...>', 'words, "a phrase", AND OR NOT, field:word, prefix*')
    .option('--count <hits>', 'number of hits', '10')
    .option('--fields <fields>', 'stored fields to print, comma separated (default: all)')
    .option('--filter <query>', 'a query that documents must match too, without influence on scores')
    .option('--sort <fields>', 'fields to sort by, comma separated; -field for descending (default: by score)')
    .option('--after <cursor>', 'the hits after those of an earlier search')
    .option('--min-coverage <share>', 'share of the shards that must be in the answer, such as 0.9 (default: all)')
    .option('--json', 'print JSON')
    .action(async (index: string, words: string[], options: IndexSearchOptions) => {
      const { runIndexSearch } = await import('./commands/index-search.ts');
      setExitCode(await runIndexSearch(context, index, words.join(' '), options));
    })
    .addHelpText(
      'after',
      examples(
        "katamari index search wiki 'rabbit hole'",
        "katamari index search wiki@1.0.0 'queen' --sort -line --count 3",
        "katamari index search 'wiki,news_*' 'rabbit'",
      ),
    );
}

function withIndexOptions(of: Command): Command {
  return of
    .argument('<index>', 'name and version, such as wiki@3.0.0')
    .argument('<source>', 'folder of shards: a path that the managers have too, or a URL')
    .requiredOption('--service <service>', 'content service that serves it, with a range of versions: Lucene@^1')
    .option('--replicas <count>', 'managers that serve each shard (default: 2, or 1 with one manager)')
    .option('--json', 'print JSON');
}

function addAdd(group: Command, context: CliContext, setExitCode: SetExitCode): void {
  withWait(withMesh(withIndexOptions(command(group, 'add', 'add a version of an index'))))
    .option('--promote <count>', 'give it the calls that name no version when each shard has so many replicas', '1')
    .option('--no-promote', 'give it no calls that name no version')
    .action(async (index: string, source: string, options: IndexAddOptions) =>
      setExitCode(await (await import('./commands/index-admin.ts')).runIndexAdd(context, index, source, options)),
    )
    .addHelpText(
      'after',
      examples(
        'katamari index add wiki@3.0.0 ./wiki-shards --service TextSearch',
        'katamari index add wiki@3.1.0 s3://indices/wiki-3.1 --service Lucene@^1 --replicas 3 --no-promote',
      ),
    );
}

function addPlan(group: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(withIndexOptions(command(group, 'plan', 'show where the shards of an index would go, and change nothing')))
    .action(async (index: string, source: string, options: IndexAddOptions) =>
      setExitCode(await (await import('./commands/index-admin.ts')).runIndexPlan(context, index, source, options)),
    )
    .addHelpText('after', examples('katamari index plan wiki@3.0.0 ./wiki-shards --service TextSearch'));
}

function addStatus(group: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(group, 'list', 'list the versions of all indices'))
    .option('--json', 'print JSON')
    .action(async (options: IndexStatusOptions) =>
      setExitCode(await (await import('./commands/index-status.ts')).runIndexList(context, options)),
    )
    .addHelpText('after', examples('katamari index list'));
  withMesh(command(group, 'status', 'show an index: its shards by manager, and what is missing'))
    .argument('<index>', 'name, or name and version')
    .option('--json', 'print JSON')
    .action(async (index: string, options: IndexStatusOptions) =>
      setExitCode(await (await import('./commands/index-status.ts')).runIndexStatus(context, index, options)),
    )
    .addHelpText('after', examples('katamari index status wiki', 'katamari index status wiki@3.0.0 --json'));
  withMesh(command(group, 'show', 'show all about a version: its list of shards with digests, and where each is'))
    .argument('<index>', 'name and version')
    .option('--raw', 'print its documents as they stand in Consul, as JSON')
    .option('--json', 'print JSON')
    .action(async (index: string, options: IndexShowOptions) =>
      setExitCode(await (await import('./commands/index-show.ts')).runIndexShow(context, index, options)),
    )
    .addHelpText('after', examples('katamari index show wiki@3.0.0', 'katamari index show wiki@3.0.0 --raw'));
  withMesh(command(group, 'nodes', 'show the managers as holders of shards, and what is wrong with them'))
    .option('--json', 'print JSON')
    .action(async (options: IndexStatusOptions) =>
      setExitCode(await (await import('./commands/index-nodes.ts')).runIndexNodes(context, options)),
    )
    .addHelpText('after', examples('katamari index nodes', 'katamari index nodes --json'));
  withMesh(command(group, 'check', 'exit with 1 unless every shard has its replicas'))
    .argument('[index]', 'name, or name and version (default: all)')
    .option('--json', 'print JSON')
    .action(async (index: string | undefined, options: IndexStatusOptions) =>
      setExitCode(await (await import('./commands/index-status.ts')).runIndexCheck(context, index, options)),
    )
    .addHelpText('after', examples('katamari index check', 'katamari index check wiki@3.0.0'));
}

function addVerify(group: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(group, 'verify', 'check the files of an index on all managers; damaged shards are fetched again'))
    .argument('<index>', 'name, or name and version')
    .argument('[shard]', 'name of a shard (default: all)')
    .option('--wait <duration>', 'wait at most this long for the checks', '1h')
    .option('--json', 'print JSON')
    .action(async (index: string, shard: string | undefined, options: IndexVerifyOptions) =>
      setExitCode(await (await import('./commands/index-verify.ts')).runIndexVerify(context, index, shard, options)),
    )
    .addHelpText('after', examples('katamari index verify wiki', 'katamari index verify wiki@3.0.0 part-00001'));
}

function addChanges(group: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(
    command(group, 'promote', 'give a version all calls that name none; warns when it has less than the one before'),
  )
    .argument('<index>', 'name and version')
    .option('--force', 'also while shards are missing')
    .option('--json', 'print JSON')
    .action(async (index: string, options: IndexChangeOptions & { force?: boolean }) =>
      setExitCode(await (await import('./commands/index-admin.ts')).runIndexPromote(context, index, options)),
    )
    .addHelpText('after', examples('katamari index promote wiki@3.1.0', 'katamari route wiki 3.0.0=95 3.1.0=5'));
  withMesh(command(group, 'replicate', 'change the number of replicas'))
    .argument('<index>', 'name and version')
    .argument('<replicas>', 'managers that serve each shard; more than there are is a warning')
    .option('--json', 'print JSON')
    .action(async (index: string, replicas: string, options: IndexChangeOptions) =>
      setExitCode(
        await (await import('./commands/index-admin.ts')).runIndexReplicate(context, index, replicas, options),
      ),
    )
    .addHelpText('after', examples('katamari index replicate wiki@3.0.0 3'));
  withMesh(command(group, 'pin', 'keep a version on some managers only'))
    .argument('<index>', 'name and version')
    .argument('[managers...]', 'the only managers that may hold its shards')
    .option('--clear', 'let it be on any manager again')
    .option('--force', 'also managers that are not known, because they are off')
    .option('--json', 'print JSON')
    .action(async (index: string, managers: string[], options: IndexPinOptions) =>
      setExitCode(await (await import('./commands/index-admin.ts')).runIndexPin(context, index, managers, options)),
    )
    .addHelpText(
      'after',
      examples('katamari index pin wiki@3.0.0 m1 m2', 'katamari index pin wiki@3.0.0 --clear', 'katamari index nodes'),
    );
  withMesh(command(group, 'remove', 'remove a version of an index'))
    .argument('<index>', 'name and version')
    .option('--json', 'print JSON')
    .action(async (index: string, options: IndexChangeOptions) =>
      setExitCode(await (await import('./commands/index-admin.ts')).runIndexRemove(context, index, options)),
    )
    .addHelpText('after', examples('katamari index remove wiki@2.0.0'));
}

/** `katamari content-server`, the command of deployments that serve indices. */
export function addContentServer(program: Command, setExitCode: SetExitCode): void {
  command(program, 'content-server', 'run a content server, as the command of a deployment')
    .argument('<name>', 'TextSearch or MapFileLookup')
    .action(async (name: string) => {
      const { contentServerOf, runContentServer } = await import('./kit/content-servers.ts');
      await runContentServer(contentServerOf(name));
      setExitCode(await new Promise<never>(() => undefined));
    })
    .addHelpText('after', examples('katamari content-server TextSearch'));
}
