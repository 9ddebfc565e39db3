// A gRPC service and its client, by connect-node. Plain CommonJS, found by NODE_PATH, because it is
// run as it stands.
//
// usage: node grpc.cjs serve PORT CERTIFICATE KEY CREDENTIAL
//        node grpc.cjs call URL ROOT
"use strict";

let connect, connectNode, protobuf, wkt;
try {
  connect = require("@connectrpc/connect");
  connectNode = require("@connectrpc/connect-node");
  protobuf = require("@bufbuild/protobuf");
  wkt = require("@bufbuild/protobuf/wkt");
} catch (error) {
  console.error(error.message);
  process.exit(77);
}
const assert = require("node:assert/strict");
const fs = require("node:fs");
const http2 = require("node:http2");

const { Code, ConnectError } = connect;
const MESSAGES = 50;
const LARGE = "x".repeat(1 << 20);

// service Talk, whose messages are strings.
function talk() {
  const kinds = { Repeat: [false, false], Count: [false, true], Join: [true, false], Echo: [true, true] };
  const wrappers = wkt.file_google_protobuf_wrappers.proto;
  const file = protobuf.create(wkt.FileDescriptorProtoSchema, {
    name: "talk.proto",
    package: "talk",
    syntax: "proto3",
    dependency: [wrappers.name],
    service: [
      {
        name: "Talk",
        method: Object.entries(kinds).map(([name, [clientStreaming, serverStreaming]]) => ({
          name,
          clientStreaming,
          serverStreaming,
          inputType: ".google.protobuf.StringValue",
          outputType: ".google.protobuf.StringValue",
        })),
      },
    ],
  });
  return protobuf.createFileRegistry(file, () => wrappers).getService("talk.Talk");
}

function serve(port, certificate, key, credential) {
  let cancelled = 0;
  const service = {
    repeat({ value }, context) {
      context.responseTrailer.set("x-said", String(value.length));
      return { value: value === "cancelled?" ? String(cancelled) : value };
    },
    async *count({ value }, context) {
      context.signal.addEventListener("abort", () => {
        if (value === "for ever") cancelled += 1;
      });
      for (let number = 0; number < MESSAGES || value === "for ever"; number += 1) {
        yield { value: String(number) };
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      context.responseTrailer.set("x-counted", String(MESSAGES));
      if (value === "fail") {
        throw new ConnectError("out of numbers", Code.ResourceExhausted, { "x-left": "none" });
      }
    },
    async join(requests) {
      let length = 0;
      for await (const { value } of requests) length += value.length;
      return { value: String(length) };
    },
    async *echo(requests) {
      for await (const message of requests) yield message;
    },
  };
  const guard = (next) => (request) => {
    if (request.header.get("authorization") !== credential) {
      throw new ConnectError("no credential", Code.Unauthenticated);
    }
    return next(request);
  };
  const handle = connectNode.connectNodeAdapter({
    interceptors: [guard],
    routes: (router) => router.service(talk(), service),
  });
  const files = { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) };
  const server = http2.createSecureServer(files, (request, response) => {
    if (request.url !== "/trailers") return handle(request, response);
    // Says what trailers came, in a trailer.
    let length = 0;
    request.on("data", (bytes) => {
      length += bytes.length;
    });
    request.on("end", () => {
      response.writeHead(200);
      response.write(String(length));
      response.addTrailers({ "x-came": String(request.trailers["x-sum"]) });
      response.end();
    });
  });
  server.listen(port, "127.0.0.1");
}

// The body and the trailers of the response to a request with both.
function callWithTrailers(url, ca) {
  return new Promise((resolve, reject) => {
    const session = http2.connect(url, { ca });
    session.on("error", reject);
    const headers = { ":method": "POST", ":path": "/trailers", te: "trailers" };
    const stream = session.request(headers, { waitForTrailers: true });
    let body = "";
    let came;
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "42" }));
    stream.on("data", (bytes) => {
      body += bytes;
    });
    stream.on("trailers", (trailers) => {
      came = trailers["x-came"];
    });
    stream.on("error", reject);
    stream.on("end", () => {
      session.close();
      resolve({ body, came });
    });
    stream.end(LARGE);
  });
}

async function call(url, root) {
  const ca = fs.readFileSync(root);
  const transport = connectNode.createGrpcTransport({ baseUrl: url, nodeOptions: { ca } });
  const client = connect.createClient(talk(), transport);

  let trailers;
  const onTrailer = (headers) => {
    trailers = headers;
  };
  const told = await client.repeat({ value: LARGE }, { onTrailer });
  assert.equal(told.value, LARGE);
  assert.equal(trailers.get("x-said"), String(LARGE.length));

  const counted = [];
  for await (const { value } of client.count({ value: "" }, { onTrailer })) counted.push(value);
  assert.deepEqual(counted, [...Array(MESSAGES).keys()].map(String));
  assert.equal(trailers.get("x-counted"), String(MESSAGES));

  // A status that comes after the messages.
  const seen = [];
  const failing = async () => {
    for await (const { value } of client.count({ value: "fail" })) seen.push(value);
  };
  await assert.rejects(failing, (error) => {
    assert.equal(error.code, Code.ResourceExhausted);
    assert.equal(error.rawMessage, "out of numbers");
    assert.equal(error.metadata.get("x-left"), "none");
    return true;
  });
  assert.equal(seen.length, MESSAGES);

  async function* parts() {
    for (let number = 0; number < 4; number += 1) yield { value: LARGE };
  }
  assert.equal((await client.join(parts())).value, String(4 * LARGE.length));

  // Each message is sent when the answer to the one before has arrived.
  let answered;
  async function* questions() {
    for (let number = 0; number < MESSAGES; number += 1) {
      const answer = new Promise((resolve) => {
        answered = resolve;
      });
      yield { value: String(number) };
      assert.equal(await answer, String(number));
    }
  }
  let answers = 0;
  for await (const { value } of client.echo(questions())) {
    answered(value);
    answers += 1;
  }
  assert.equal(answers, MESSAGES);

  // What is cancelled here ends there.
  const controller = new AbortController();
  const endless = async () => {
    for await (const _ of client.count({ value: "for ever" }, { signal: controller.signal })) {
      controller.abort();
    }
  };
  await assert.rejects(endless, (error) => error.code === Code.Canceled);
  while ((await client.repeat({ value: "cancelled?" })).value !== "1") {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }

  const many = Array.from({ length: 100 }, (_, number) => client.repeat({ value: `${number}` }));
  assert.deepEqual((await Promise.all(many)).map(({ value }) => value), [...Array(100).keys()].map(String));

  assert.deepEqual(await callWithTrailers(url, ca), { body: String(LARGE.length), came: "42" });
  console.log("all calls are answered");
  process.exit(0);
}

const [mode, ...rest] = process.argv.slice(2);
if (mode === "serve") {
  serve(Number(rest[0]), ...rest.slice(1));
} else if (mode === "call") {
  call(...rest);
} else if (mode !== "probe") {
  process.exit(64);
}
