// `lanebox images`: the image packages that are found.
import { join } from "node:path";
import { findImages } from "../artifacts.js";
import { write } from "./output.js";

/** Prints the images; wrong ones go to stderr and make the exit status 1. */
export async function images(options: { readonly json: boolean }): Promise<number> {
  const { images: found, problems } = findImages();
  const sorted = [...found].sort((a, b) => a.descriptor.name.localeCompare(b.descriptor.name));
  if (options.json) {
    const list = sorted.map(({ directory, descriptor: { schema: _, ...rest } }) => ({
      ...rest,
      path: join(directory, rest.path),
    }));
    await write(process.stdout, `${JSON.stringify(list, null, 2)}\n`);
  } else {
    const rows = sorted.map(({ directory, descriptor }) => [
      descriptor.name,
      descriptor.format,
      mebibytes(descriptor.sizeBytes),
      directory,
    ]);
    const lines = table([["NAME", "FORMAT", "SIZE", "FOLDER"], ...rows]);
    await write(process.stdout, sorted.length === 0 ? "no images are installed\n" : lines);
  }
  for (const { error } of problems) await write(process.stderr, `lanebox: ${error.message}\n`);
  return problems.length === 0 ? 0 : 1;
}

/** A number of bytes for people. */
export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** Rows as aligned text. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? "").length)),
  );
  const line = (row: readonly string[]) =>
    row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ");
  return rows.map((row) => `${line(row).trimEnd()}\n`).join("");
}
