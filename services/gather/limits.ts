// Limits and times of the gather.

/** Tries of a shard in one call. */
export const TRIES_MAX = 3;
/** Requests to one manager that share the shards of a call. */
export const REQUESTS_PER_MANAGER_MAX = 8;
/** Time that is reserved for merging: the larger of the two. */
export const RESERVE_MS = 5;
export const RESERVE_SHARE = 0.05;
/** Share of the time left for which a call waits for more shards once it has enough of them. */
export const EXTRA_WAIT_SHARE = 0.2;
/** A request is sent to another manager too when it takes longer than this, and longer than 95 % of the others. */
export const HEDGE_MIN_MS = 5;
/** The same before enough times are known: a share of the time that the call has, and this at most. */
export const HEDGE_UNKNOWN_SHARE = 0.25;
export const HEDGE_UNKNOWN_MAX_MS = 1_000;
/** Time after which a hedge that the budget or the lack of a manager forbade is tried again. */
export const HEDGE_AGAIN_MS = 100;
/** Requests a second that are sent to another manager too, however few are sent. */
export const HEDGES_PER_SECOND = 1;
/** The preferred manager of a shard is left when its load is more than this times that of another one. */
export const UNEVEN_LOAD_RATIO = 1.5;
/** One answer counts for this share of the slowness of its manager, and for this many usual times at most. */
export const SLOWNESS_SHARE = 0.1;
export const SLOWNESS_MAX = 5;
/** Differences of shorter times are noise. */
export const USUAL_MIN_MS = 1;
/** The slowness of a manager that gets no requests is halved in this time. */
export const HALF_LIFE_MS = 5_000;
/** Until a manager has answered so often, it gets few requests at a time if there is another one. */
export const NEWCOMER_ANSWERS = 16;
export const NEWCOMER_REQUESTS_MAX = 4;
/** Hits that a search may ask for, and those of all its requests together. */
export const COUNT_MAX = 10_000;
export const HITS_MAX = 200_000;
/** Documents that a call may name. */
export const DOCUMENTS_MAX = 10_000;
/** Terms of a query. */
export const TERMS_MAX = 1_024;
/** Bytes of the arguments of all requests of one call together. */
export const REQUEST_BYTES_MAX: number = 256 * 1024 * 1024;
/** Bytes of all answers of one call together. */
export const ANSWER_BYTES_MAX: number = 256 * 1024 * 1024;
/** Characters of the reason why a shard is missing, and of a name that a caller has sent, in a message. */
export const WHY_CHARS_MAX = 500;
export const NAME_CHARS_MAX = 200;
/** Shards that an error names. */
export const SHARDS_NAMED_MAX = 3;
/** Shards in the list of missing ones of a coverage. */
export const MISSING_MAX = 100;
