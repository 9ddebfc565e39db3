/** Numbers of a benchmark: medians and percentiles, printed as lines of a table. */

/** The value below which the share `p` (0 to 1) of the samples lies. */
export function percentile(samples: readonly number[], p: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))];
  if (value === undefined) throw new Error("no samples");
  return value;
}

/** The middle value. */
export function median(samples: readonly number[]): number {
  return percentile(samples, 0.5);
}

/** One line of the report: what, the value with its unit, and the goal when there is one. */
export function report(what: string, value: string, goal = ""): void {
  console.log(`${what.padEnd(58)} ${value.padStart(26)}  ${goal}`);
}
