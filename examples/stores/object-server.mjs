// A small object storage in memory, for trying and testing: PUT, GET and DELETE of objects and
// ListObjectsV2, ten keys a page. No accounts, no signatures: it listens on loopback only.

import { once } from "node:events";
import { createServer } from "node:http";

const PAGE = 10;

/** Starts one; `url` is its bucket, `objects` what is in it. */
export async function startObjectServer() {
  const objects = new Map();
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://bucket");
    const key = decodeURIComponent(pathname.slice(1));
    const answer = (status, body) => response.writeHead(status).end(body);
    switch (request.method) {
      case "PUT": {
        const pieces = await request.toArray().catch(() => undefined);
        if (pieces === undefined) return; // the client has left
        objects.set(key, Buffer.concat(pieces));
        answer(200);
        break;
      }
      case "DELETE":
        objects.delete(key);
        answer(204);
        break;
      case "GET":
        if (key === "") answer(200, page(objects, searchParams));
        else if (objects.has(key)) answer(200, objects.get(key));
        else answer(404);
        break;
      default:
        answer(405);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async () => {
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  };
  return { url: `http://127.0.0.1:${server.address().port}`, objects, close };
}

function page(objects, query) {
  const prefix = query.get("prefix") ?? "";
  const after = query.get("continuation-token") ?? "";
  const keys = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
  const shown = keys.slice(0, PAGE);
  const more = keys.length > PAGE;
  const next = more ? `<NextContinuationToken>${shown.at(-1)}</NextContinuationToken>` : "";
  const contents = shown.map((key) => `<Contents><Key>${key}</Key></Contents>`).join("");
  return `<?xml version="1.0"?><ListBucketResult>${next}${contents}</ListBucketResult>`;
}
