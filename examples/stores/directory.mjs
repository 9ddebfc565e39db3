// A block store that keeps every block as a file of a directory. What it promises: a block is there
// as a whole or not at all, `flush` makes all that was written durable, blocks of one base are never
// seen over another, and a writer that was overtaken by a later one is refused.

import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";

const BLOCK_BYTES = 64 * 1024;

export class DirectoryBlockStore {
  blockSize = BLOCK_BYTES;
  #directory;
  #unsynced = new Set();
  #claimed;

  constructor(directory) {
    this.#directory = directory;
  }

  async list(context) {
    await this.#claim(context);
    const names = await readdir(this.#directory);
    return names.filter((name) => /^[0-9a-f]{16}$/.test(name)).map((name) => BigInt(`0x${name}`));
  }

  async read({ start, count }, { signal }) {
    const numbers = Array.from({ length: count }, (_, index) => start + BigInt(index));
    return Promise.all(
      numbers.map(async (number) => ({
        start: number,
        data: await readFile(this.#path(number), { signal }),
      })),
    );
  }

  async write(chunks, context) {
    await this.#claim(context);
    for (const { start, data } of chunks) {
      for (let at = 0; at < data.byteLength; at += BLOCK_BYTES) {
        const path = this.#path(start + BigInt(at / BLOCK_BYTES));
        const file = await open(`${path}.new`, "w");
        try {
          await file.writeFile(data.subarray(at, at + BLOCK_BYTES));
        } finally {
          await file.close();
        }
        await rename(`${path}.new`, path);
        this.#unsynced.add(path);
      }
    }
  }

  async flush(context) {
    await this.#claim(context);
    const paths = [...this.#unsynced];
    this.#unsynced.clear();
    try {
      for (const path of [...paths, this.#directory]) await sync(path);
    } catch (error) {
      for (const path of paths) this.#unsynced.add(path);
      throw error;
    }
  }

  async discard(blocks, context) {
    await this.#claim(context);
    for (const block of blocks) {
      this.#unsynced.delete(this.#path(block));
      await rm(this.#path(block), { force: true });
    }
  }

  #path(block) {
    return join(this.#directory, block.toString(16).padStart(16, "0"));
  }

  /** Takes the directory for one writer, once; refuses what was overtaken, and other bases. */
  async #claim({ base, generation }) {
    const path = join(this.#directory, "writer.json");
    const found = await readFile(path, "utf8").then(JSON.parse, () => undefined);
    if (found !== undefined && found.base !== base) {
      throw new Error(`${this.#directory} has blocks over ${found.base}`);
    }
    if (found !== undefined && BigInt(found.generation) > generation) {
      throw new Error(`a later writer has ${this.#directory}`);
    }
    if (this.#claimed === generation) return;
    await mkdir(this.#directory, { recursive: true });
    const file = await open(`${path}.new`, "w");
    try {
      await file.writeFile(JSON.stringify({ base, generation: String(generation) }));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    this.#claimed = generation;
  }
}

async function sync(path) {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
