// A block store in an object storage that speaks the four calls of S3 that it needs: PUT, GET and
// DELETE of an object, and ListObjectsV2. Objects are named PREFIX/BASE/BLOCK, so blocks of one base
// are never seen over another. A PUT that was answered is durable: there is no `flush`.
//
// A real bucket also wants its requests signed (and, against two writers, conditional writes): give
// `request` for that, which has fetch's shape.

const BLOCK_BYTES = 256 * 1024;
const AT_ONCE = 8;

export class ObjectBlockStore {
  blockSize = BLOCK_BYTES;
  #bucket;
  #prefix;
  #request;

  /** `bucket` is a URL such as https://bucket.s3.example.com, `prefix` a name for this disk. */
  constructor(bucket, prefix, request = fetch) {
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#request = request;
  }

  async list(context) {
    const folder = this.#folder(context);
    const blocks = [];
    let token;
    do {
      const query = new URLSearchParams({ "list-type": "2", prefix: folder });
      if (token !== undefined) query.set("continuation-token", token);
      const text = await (await this.#call("GET", `/?${query}`, context)).text();
      for (const [, key] of text.matchAll(/<Key>([^<]*)<\/Key>/g)) {
        blocks.push(BigInt(`0x${key.slice(folder.length)}`));
      }
      token = /<NextContinuationToken>([^<]*)</.exec(text)?.[1];
    } while (token !== undefined);
    return blocks;
  }

  async read({ start, count }, context) {
    const numbers = Array.from({ length: count }, (_, index) => start + BigInt(index));
    return side(numbers, async (number) => {
      const response = await this.#call("GET", this.#key(number, context), context);
      return { start: number, data: new Uint8Array(await response.arrayBuffer()) };
    });
  }

  async write(chunks, context) {
    const blocks = chunks.flatMap(({ start, data }) =>
      Array.from({ length: data.byteLength / BLOCK_BYTES }, (_, index) => ({
        number: start + BigInt(index),
        body: data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES),
      })),
    );
    await side(blocks, ({ number, body }) =>
      this.#call("PUT", this.#key(number, context), context, body),
    );
  }

  async discard(blocks, context) {
    await side(blocks, (block) => this.#call("DELETE", this.#key(block, context), context));
  }

  #folder({ base }) {
    return `${this.#prefix}/${base.replace(":", "-")}/`;
  }

  #key(block, context) {
    return `/${this.#folder(context)}${block.toString(16).padStart(16, "0")}`;
  }

  async #call(method, path, { signal }, body) {
    const response = await this.#request(`${this.#bucket}${path}`, { method, body, signal });
    if (!response.ok) throw new Error(`${method} ${path} was answered with ${response.status}`);
    return response;
  }
}

/** Does it for all, a few at a time; results are in the order of the items. */
async function side(items, work) {
  const results = [];
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < items.length; index = next++) {
      results[index] = await work(items[index]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
  return results;
}
