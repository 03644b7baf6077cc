// The methods of TextContent (idl/search.thrift) on the open shards.

import { CallRefused, type Content, type HandlerContext, type Handlers } from '../../chassis-sdk/typescript/mod.ts';
import { explainScore } from './explain.ts';
import { TEXT_LIMITS } from './limits.ts';
import { checkSort, type TextSortKey } from './order.ts';
import type { QueryPlan } from './plan.ts';
import { badQuery, inFilter, parseQuery, type QueryTree } from './query.ts';
import { matchesOf, plansOf, searchShards, shownFields, sumStatistics } from './search.ts';
import type { TextShard } from './shard.ts';
import { SoftEnd } from './soft-end.ts';
import type { TextStatistics } from './statistics.ts';
import { readCursor, wireFields } from './values.ts';

interface DocumentName {
  readonly shard: string;
  readonly document: bigint;
}

interface QueryArguments {
  readonly shards?: readonly string[];
  readonly query: string;
}

interface TextSearchArguments extends QueryArguments {
  readonly count: number;
  readonly sort?: readonly TextSortKey[];
  readonly filter: string;
  readonly fields?: readonly string[];
  readonly after: string;
  readonly statistics?: ReadonlyMap<string, bigint>;
}

export function textHandlers(content: Pick<Content<TextShard>, 'use'>): Handlers<HandlerContext> {
  return {
    statistics: ({ shards, query }: QueryArguments, context: HandlerContext) => {
      const parsed = parseQuery(query);
      const end = new SoftEnd(context.timeLeftMs());
      return content.use(shards, (open) => sumStatistics(open, plansOf(open, { query: parsed }), end) ?? late(end));
    },

    search: (args: TextSearchArguments, context: HandlerContext) => {
      const { shards, query, count, sort = [], filter, fields = [], after, statistics } = args;
      if (count < 0 || count > TEXT_LIMITS.countMax)
        throw badQuery(`count is ${count}, expected 0 to ${TEXT_LIMITS.countMax}`);
      checkSort(sort);
      const request = {
        query: parseQuery(query),
        filter: parseFilter(filter),
        count,
        sort,
        after: readCursor(after, sort),
        fields,
        statistics: statisticsIn(statistics),
      };
      const end = new SoftEnd(context.timeLeftMs());
      return content.use(shards, (open) => searchShards(open, request, end));
    },

    count: ({ shards, query, filter }: QueryArguments & { readonly filter: string }, context: HandlerContext) => {
      const request = { query: parseQuery(query), filter: parseFilter(filter) };
      const end = new SoftEnd(context.timeLeftMs());
      return content.use(shards, (open) => {
        let total = 0;
        const plans = plansOf(open, request);
        for (const [name, shard] of open) {
          const { places, looked } = matchesOf(shard, plans.get(name) as QueryPlan, end);
          // A number cannot say that it is too low.
          if (looked < shard.documents) return late(end);
          total += places.length;
        }
        return total;
      });
    },

    documents: (args: {
      readonly shards?: readonly string[];
      readonly ids: readonly DocumentName[];
      readonly fields?: readonly string[];
    }) => {
      const { shards, ids, fields = ['*'] } = args;
      if (ids.length > TEXT_LIMITS.documentsMax)
        throw new CallRefused('bad_request', `found ${ids.length} ids, the limit is ${TEXT_LIMITS.documentsMax}`);
      return content.use(shards, (open) =>
        ids.flatMap((id) => {
          const shard = open.get(id.shard);
          const stored = shard?.stored(Number(id.document), shownFields(shard, fields));
          return stored === undefined ? [] : [{ id, fields: wireFields(stored) }];
        }),
      );
    },

    explain: (
      args: QueryArguments & { readonly id: DocumentName; readonly statistics?: ReadonlyMap<string, bigint> },
      context: HandlerContext,
    ) => {
      const query = parseQuery(args.query);
      const end = new SoftEnd(context.timeLeftMs());
      return content.use(args.shards, (open) => {
        const shard = open.get(args.id.shard);
        if (shard === undefined) return '';
        const statistics =
          statisticsIn(args.statistics) ?? sumStatistics(open, plansOf(open, { query }), end) ?? late(end);
        return explainScore(shard, query, Number(args.id.document), statistics, end) || late(end);
      });
    },
  };
}

function parseFilter(filter: string): QueryTree | undefined {
  return filter === '' ? undefined : inFilter(() => parseQuery(filter));
}

/** The sums of the caller. It cannot send sums that make a score NaN: they are whole. Empty counts as absent. */
function statisticsIn(given: ReadonlyMap<string, bigint> | undefined): TextStatistics | undefined {
  if (given === undefined || given.size === 0) return undefined;
  if (given.size > TEXT_LIMITS.scoringTermsMax + 2)
    throw badQuery(`found ${given.size} statistics, the limit is ${TEXT_LIMITS.scoringTermsMax + 2}`);
  return new Map([...given].map(([name, value]) => [name, Number(value)]));
}

function late(end: SoftEnd): never {
  throw new CallRefused('timeout', `${end.describe()}; ask for fewer shards or allow more time`);
}
