// Texts for events.

/** Bytes of a reason or a problem, at most; the protocol has room for 1 KiB. */
const BYTES_MAX = 1000;

/** A text, cut where it is too long, which the last character then tells. Whatever it is given, it is a text. */
export function brief(given: unknown): string {
  const text = String(given)
    .slice(0, BYTES_MAX + 1)
    .toWellFormed();
  if (Buffer.byteLength(text) <= BYTES_MAX) return text;
  const bytes = Buffer.from(text).subarray(0, BYTES_MAX - 3);
  return `${new TextDecoder().decode(bytes).replace(/\ufffd+$/, "")}…`;
}
