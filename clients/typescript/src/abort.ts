// Listening to a caller's AbortSignal. However many calls share a signal, it gets one listener of
// ours, so that Node has no reason to warn of a leak.

const callbacks = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls back once when the signal fires; what is returned ends the listening. */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal === undefined) return () => undefined;
  if (signal.aborted) {
    callback();
    return () => undefined;
  }
  let waiting = callbacks.get(signal);
  if (waiting === undefined) {
    waiting = new Set();
    callbacks.set(signal, waiting);
  }
  const all = waiting;
  if (all.size === 0) signal.addEventListener("abort", fire, { once: true });
  // A function of its own: the same callback may be given twice.
  const entry = () => callback();
  all.add(entry);
  return () => {
    if (all.delete(entry) && all.size === 0) signal.removeEventListener("abort", fire);
  };
}

function fire(this: AbortSignal): void {
  const waiting = callbacks.get(this);
  if (waiting === undefined) return;
  callbacks.delete(this);
  for (const callback of waiting) callback();
}
