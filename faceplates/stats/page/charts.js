// Three charts over the last five minutes: calls per second, latency, and calls queued and running, for all calls or
// one pool. The history exists only in this page. Each refresh adds a point; rates are computed from counter
// differences.

import { byId, count, duration, mark, rate, say, summandsOf } from './format.js';

/** @type {any} */
const Plot = Reflect.get(globalThis, 'uPlot');

const WINDOW_S = 300;
/** The window of a newly opened page. It is shorter, so that the first minute fills the chart. */
const WINDOW_MIN_S = 60;
const POINTS_MAX = 400;
/** Number of refreshes over which the quantiles of all calls are computed, about 10 s. */
const QUANTILE_SAMPLES = 10;
const OUTCOMES = ['replied', 'failed', 'refused', 'timed_out', 'cancelled'];

/**
 * Name, color variable of the style sheet, and dash pattern, so that lines differ by more than their color.
 * @typedef {[name: string, color: string, dash?: number[]]} Line
 */

/** @type {Line[]} */
const ALL_LINES = [
  ['replied', '--busy'],
  ['failed', '--failed'],
  ['refused', '--starting', [8, 4]],
  ['timed out', '--draining', [4, 3]],
  ['cancelled', '--stopping', [2, 3]],
];
/** @type {Line[]} */
const POOL_LINES = [
  ['calls', '--busy'],
  ['errors', '--failed'],
];
/** @type {Line[]} */
const LATENCY_LINES = [
  ['p50', '--busy'],
  ['p99', '--backing-off', [6, 3]],
  ['p99 in queue', '--stopping', [2, 3]],
];
/** @type {Line[]} */
const QUEUE_LINES = [
  ['in flight', '--busy'],
  ['queued', '--backing-off'],
];

/** One column of numbers per line, as long as the column of times. @typedef {(number | null)[][]} Columns */

export class Charts {
  #times = /** @type {number[]} */ ([]);
  /** By pool key, '' for all calls. @type {Map<string, { calls: Columns, latency: Columns, queue: Columns }>} */
  #history = new Map();
  /** @type {any} */ #before;
  /** @type {{ total: number[], queue: number[] }[]} */ #durations = [];
  #scope = '';
  /** Name of the process whose faceplates count all calls; '' if it is the only process. */
  #through = '';
  #select = /** @type {HTMLSelectElement} */ (byId('scope'));
  /** @type {Chart[]} */ #charts = [];

  constructor() {
    this.#select.addEventListener('change', () => {
      this.#scope = this.#select.value;
      this.#build();
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#build());
    this.#build();
  }

  /** Adds one status, with pools merged over their managers. @param {any} status @param {any} durations */
  sample(status, durations) {
    this.#through = status.processes.length > 1 ? status.name : '';
    const before = this.#before;
    const seconds = before === undefined ? 0 : (status.uptimeMs - before.uptimeMs) / 1000;
    /** @param {number} now @param {number | undefined} then */
    const perS = (now, then) => (seconds > 0 && then !== undefined && now >= then ? (now - then) / seconds : null);

    this.#durations.push(durations);
    if (this.#durations.length > QUANTILE_SAMPLES + 1) this.#durations.shift();
    const first = this.#durations[0] ?? durations;
    const total = minus(durations.total, first.total);
    const queue = minus(durations.queue, first.queue);
    const queued = status.pools.reduce((/** @type {number} */ sum, /** @type {any} */ pool) => sum + pool.queued, 0);

    const inFlightSum = status.pools.reduce(
      (/** @type {number} */ sum, /** @type {any} */ pool) => sum + inFlight(pool),
      0,
    );

    const rows = new Map();
    rows.set('', {
      calls: OUTCOMES.map((name) => perS(status.calls[name], before?.calls[name])),
      latency: [
        quantile(total, 0.5, durations.boundsS),
        quantile(total, 0.99, durations.boundsS),
        quantile(queue, 0.99, durations.boundsS),
      ],
      // The sums of all pools cover the whole mesh, including calls that other processes accepted.
      queue: [inFlightSum, queued],
    });
    const poolsBefore = new Map((before?.pools ?? []).map((/** @type {any} */ pool) => [keyOf(pool), pool]));
    for (const pool of status.pools) {
      const known = poolsBefore.get(keyOf(pool));
      // When a manager returns, the sums jump by its whole counters, so no rate can be computed.
      const then = known !== undefined && summandsOf(known) === summandsOf(pool) ? known : undefined;
      rows.set(keyOf(pool), {
        calls: [perS(pool.calls, then?.calls), perS(pool.errors, then?.errors)],
        latency: [pool.p50Ms, pool.p99Ms, pool.queueP99Ms],
        queue: [inFlight(pool), pool.queued],
      });
    }
    this.#before = status;
    this.#push(Date.now() / 1000, rows);
    this.#offer(status.pools);
    this.#draw();
  }

  /** Adds a gap to the lines, because there is no data for this time. */
  gap() {
    this.#push(Date.now() / 1000, new Map());
    this.#before = undefined;
    this.#durations = [];
    this.#draw();
  }

  /** Forgets the previous counters after a restart of the process. */
  restarted() {
    this.#before = undefined;
    this.#durations = [];
  }

  /** @param {number} atS @param {Map<string, Record<'calls' | 'latency' | 'queue', (number | null)[]>>} rows */
  #push(atS, rows) {
    const isOver = this.#times.length >= POINTS_MAX;
    for (const [key, row] of rows) {
      if (this.#history.has(key)) continue;
      /** @param {(number | null)[]} values */
      const empty = (values) => values.map(() => this.#times.map(() => null));
      this.#history.set(key, { calls: empty(row.calls), latency: empty(row.latency), queue: empty(row.queue) });
    }
    this.#times.push(atS);
    if (isOver) this.#times.shift();
    for (const [key, columns] of this.#history) {
      const row = rows.get(key);
      for (const what of /** @type {const} */ (['calls', 'latency', 'queue'])) {
        for (const [i, column] of columns[what].entries()) {
          column.push(row?.[what][i] ?? null);
          if (isOver) column.shift();
        }
      }
      // Forget a removed pool when its last point has left the window.
      if (key !== '' && row === undefined && columns.queue[0]?.every((value) => value === null))
        this.#history.delete(key);
    }
  }

  /**
   * Updates the list of pools. It is rebuilt only if it changed, because rebuilding closes an open list.
   * @param {any[]} pools
   */
  #offer(pools) {
    const wanted = ['', ...new Set(pools.map(keyOf))];
    if (this.#scope !== '' && !wanted.includes(this.#scope)) {
      if (this.#history.has(this.#scope)) wanted.push(this.#scope);
      else this.#scope = '';
    }
    const have = [...this.#select.options].map((option) => option.value);
    this.#caption();
    if (have.join('\n') === wanted.join('\n')) return;
    this.#select.replaceChildren(...wanted.map((key) => new Option(key === '' ? 'all calls' : key, key)));
    const isChanged = this.#select.value !== this.#scope;
    this.#select.value = this.#scope;
    if (isChanged) this.#build();
  }

  /** Shows in each chart which calls it covers. */
  #caption() {
    const isAll = this.#scope === '' && this.#through !== '';
    say(byId('chart-calls-of'), isAll ? `through ${this.#through}` : '');
    say(byId('chart-latency-of'), isAll ? `over 10 s, through ${this.#through}` : 'over 10 s');
    say(byId('chart-queue-of'), isAll ? 'in the whole mesh' : '');
  }

  #build() {
    this.#caption();
    for (const chart of this.#charts) chart.close();
    this.#charts = [
      new Chart('chart-calls', 'Calls per second', this.#scope === '' ? ALL_LINES : POOL_LINES, rate),
      new Chart('chart-latency', 'Latency', LATENCY_LINES, duration),
      new Chart('chart-queue', 'Queued and in flight', QUEUE_LINES, count),
    ];
    this.#draw();
  }

  #draw() {
    const columns = this.#history.get(this.#scope);
    const [calls, latency, queue] = this.#charts;
    calls?.draw(this.#times, columns?.calls);
    latency?.draw(this.#times, columns?.latency);
    queue?.draw(this.#times, columns?.queue);
  }
}

/** One chart on a canvas. Screen readers get its latest values as text. */
class Chart {
  /** @type {any} */ #plot;
  #lines;
  #title;
  #format;
  #place;
  #resize = new ResizeObserver(() => this.#fit());

  /** @param {string} id @param {string} title @param {Line[]} lines @param {(value: number) => string} format */
  constructor(id, title, lines, format) {
    this.#place = byId(id);
    this.#title = title;
    this.#lines = lines;
    this.#format = format;
    this.#plot = new Plot(this.#options(), [[], ...lines.map(() => [])], this.#place);
    this.#resize.observe(this.#place);
  }

  close() {
    this.#resize.disconnect();
    this.#plot.destroy();
  }

  /** @param {number[]} times @param {Columns | undefined} columns */
  draw(times, columns) {
    const filled = columns ?? this.#lines.map(() => times.map(() => null));
    this.#plot.setData([times, ...filled]);
    const newest = this.#lines.map(([name], i) => {
      const value = filled[i]?.at(-1);
      return `${name} ${value === null || value === undefined ? 'none' : this.#format(value)}`;
    });
    mark(this.#place, 'aria-label', `${this.#title}: ${newest.join(', ')}`);
  }

  #fit() {
    const width = this.#place.clientWidth;
    if (width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }

  #options() {
    const style = getComputedStyle(document.documentElement);
    /** @param {string} name */
    const color = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: color('--soft'), font: '11px system-ui, sans-serif', ticks: { show: false } };
    const grid = { stroke: color('--line'), width: 1 };
    // Without a pointer on the chart, the legend shows the latest values.
    /**
     * @param {any} plot
     * @param {number | null | undefined} value
     * @param {number} series
     * @param {number | null} [index]
     */
    const tell = (plot, value, series, index) => {
      const shown = index === null || index === undefined ? plot.data[series]?.at(-1) : value;
      return shown === null || shown === undefined ? '–' : this.#format(shown);
    };
    return {
      width: this.#place.clientWidth || 300,
      height: HEIGHT,
      cursor: { sync: { key: 'samples' }, drag: { x: false, y: false }, points: { size: 6 } },
      legend: { live: true },
      scales: {
        x: { range: (/** @type {any} */ plot) => shownTimes(plot.data[0]?.[0]) },
        y: {
          range: (/** @type {unknown} */ _, /** @type {number} */ __, /** @type {number | null} */ max) => [
            0,
            Math.max(1, (max ?? 0) * 1.15),
          ],
        },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          space: 84,
          size: 28,
          values: (/** @type {unknown} */ _, /** @type {number[]} */ at) => at.map(clock),
        },
        {
          ...axis,
          grid,
          size: 58,
          space: 36,
          incrs: this.#format === count ? WHOLE_STEPS : TENTHS_STEPS,
          values: (/** @type {unknown} */ _, /** @type {number[]} */ at) =>
            at.map((value) => (value === 0 ? '0' : this.#format(value))),
        },
      ],
      series: [
        { label: 'at', value: tellTime },
        ...this.#lines.map(([label, variable, dash], i) => ({
          label,
          value: tell,
          stroke: color(variable),
          width: 1.75,
          ...(dash === undefined ? {} : { dash }),
          ...(i === 0 ? { fill: `${color(variable)}22` } : {}),
          points: { show: false },
          spanGaps: false,
        })),
      ],
    };
  }
}

const HEIGHT = 170;
const WHOLE_STEPS = Array.from({ length: 9 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** i)).flat();
const TENTHS_STEPS = [0.1, 0.2, 0.5, ...WHOLE_STEPS];

/** @param {any} plot @param {number | null | undefined} atS */
function tellTime(plot, atS) {
  const shown = atS ?? plot.data[0]?.at(-1);
  return shown === undefined ? '–' : new Date(shown * 1000).toLocaleTimeString();
}

/** @param {number | undefined} firstS @returns {[number, number]} */
function shownTimes(firstS) {
  const now = Date.now() / 1000;
  const span = firstS === undefined ? WINDOW_MIN_S : now - firstS;
  return [now - Math.min(WINDOW_S, Math.max(WINDOW_MIN_S, span)), now];
}

/** @param {number} atS */
function clock(atS) {
  const seconds = atS % 60 === 0 ? {} : /** @type {const} */ ({ second: '2-digit' });
  return new Date(atS * 1000).toLocaleTimeString(undefined, {
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
    ...seconds,
  });
}

/** @param {any} pool */
function keyOf(pool) {
  return String(pool.id);
}

/** @param {any} pool */
function inFlight(pool) {
  return pool.resources.reduce((/** @type {number} */ sum, /** @type {any} */ resource) => sum + resource.inFlight, 0);
}

/** @param {number[]} now @param {number[]} then */
function minus(now, then) {
  return now.map((n, i) => n - (then[i] ?? 0));
}

/**
 * Returns quantile `q` in ms, interpolated within its bucket; null without calls.
 * @param {number[]} counts
 * @param {number} q
 * @param {number[]} boundsS
 */
function quantile(counts, q, boundsS) {
  const total = counts.reduce((sum, n) => sum + n, 0);
  if (total <= 0) return null;
  let below = 0;
  for (const [i, here] of counts.entries()) {
    if (here > 0 && below + here >= q * total) {
      const low = boundsS[i - 1] ?? 0;
      const high = boundsS[i] ?? low;
      return 1000 * (low + (high - low) * ((q * total - below) / here));
    }
    below += here;
  }
  return null;
}
