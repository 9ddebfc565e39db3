import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { planBoot } from "../boot.js";
import { FilesystemFeature as Feature } from "../gen/lanebox/v1/mount_pb.js";
import { type FileSystem, fs, rootfs, SandboxError } from "../index.js";
import { checkDefinition } from "../options.js";
import { FAKE_IMAGE, setUp } from "../testing/harness.js";

const setup = setUp();
const host = mkdtempSync(join(tmpdir(), "lanebox-bind-"));
writeFileSync(join(host, "file"), "");
after(() => {
  setup.remove();
  rmSync(host, { recursive: true });
});
const definition = checkDefinition({ rootfs: rootfs.builtIn(FAKE_IMAGE) });

const reader: FileSystem = {
  stat: async () => ({ type: "directory" }),
  list: async () => [],
  read: async () => new Uint8Array(),
};
const writer: FileSystem = {
  ...reader,
  createFile: async () => ({ type: "file" }),
  write: async () => 1,
  truncate: async () => ({ type: "file" }),
};

function planned(mount: unknown) {
  const { request, served } = planBoot(definition, { mounts: { "/mnt/x": mount } });
  const [message] = request.mounts;
  assert(message !== undefined);
  return { message, served: served.mounts ?? [] };
}

function features(mount: unknown): string[] {
  const { source } = planned(mount).message;
  assert(source.case === "callbacks");
  return source.value.features.map((feature) => Feature[feature]);
}

function refused(work: () => unknown, message: RegExp): void {
  assert.throws(work, (error) => {
    assert(error instanceof SandboxError && error.code === "invalid-argument", String(error));
    assert.match(error.message, message);
    return true;
  });
}

test("features are the methods that are there; without the writable group only those that read", () => {
  const noop = async () => undefined;
  assert.deepEqual(features(fs.virtual(reader)), []);
  assert.deepEqual(features(fs.virtual(writer)), ["WRITABLE"]);
  const readlink = async () => "x";
  const { write: _, ...halfWriter } = { ...writer, mkdir: noop, readlink };
  assert.deepEqual(features(fs.virtual(halfWriter)), ["READLINK"]);
  const more = { ...writer, mkdir: noop, rename: noop, mknod: noop, readlink };
  assert.deepEqual(features(fs.virtual(more)), [
    "WRITABLE",
    "READLINK",
    "MKDIR",
    "RENAME",
    "NODES",
  ]);
  assert(features(fs.virtual({ ...more, renameFlags: true })).includes("RENAME_MODES"));
  assert.deepEqual(features(fs.virtual(more, { readOnly: true })), ["READLINK"]);
  const all = Object.values(Feature).filter((name) => typeof name === "string");
  assert.equal(features(fs.memory()).length, all.length - 1, "all but UNSPECIFIED");
});

test("options of fs.virtual go into the request; one memory is served to each boot by itself", () => {
  const { message, served } = planned(
    fs.virtual(writer, { cacheMs: 50, deadlineMs: 7, nosuid: false }),
  );
  assert.equal(message.target, "/mnt/x");
  assert.equal(message.setId, true);
  assert.equal(message.readOnly, false);
  assert(message.source.case === "callbacks");
  assert.deepEqual([message.source.value.cacheMs, message.source.value.deadlineMs], [50, 7]);
  assert.equal(served[0]?.id, message.source.value.id);
  const memory = fs.memory();
  assert.notEqual(planned(memory).served[0]?.fileSystem, planned(memory).served[0]?.fileSystem);
  assert.equal(planned(memory).message.setId, false);
  assert.equal(planned(fs.virtual(memory, { readOnly: true })).message.readOnly, true);
});

test("a bind mount carries its options and needs no stream", () => {
  const mask = { paths: ["node_modules", "a/b"], storage: host };
  const { message, served } = planned(
    fs.bind({ source: host, access: "rw", mask, nosuid: false, nodev: true, exclusive: true }),
  );
  assert.deepEqual(served, []);
  assert(message.source.case === "bind");
  const { source, maskPaths, maskStorage, exclusive } = message.source.value;
  assert.deepEqual(
    { source, maskPaths, maskStorage, exclusive },
    {
      source: host,
      maskPaths: mask.paths,
      maskStorage: host,
      exclusive: true,
    },
  );
  assert.deepEqual([message.readOnly, message.setId], [false, true]);
  const plain = planned(fs.bind({ source: host })).message;
  assert.deepEqual(
    [plain.readOnly, plain.setId],
    [true, false],
    "read-only without set-id by default",
  );
});

const wrongBinds: [unknown, RegExp][] = [
  [undefined, /^options\.source/],
  [{ source: "relative" }, /^options\.source: .*'relative'/],
  [{ source: "/a/../b" }, /^options\.source: .*normal form/],
  [{ source: "/a", access: "w" }, /^options\.access: .*'w'/],
  [{ source: "/a", readonly: true }, /^options\.readonly: unknown/],
  [{ source: "/a", nodev: false }, /^options\.nodev: .*device nodes never work/],
  [{ source: "/a", nosuid: 1 }, /^options\.nosuid/],
  [{ source: "/a", mask: {} }, /^options\.mask\.paths/],
  [{ source: "/a", mask: { paths: ["/x"] } }, /^options\.mask\.paths\[0\]: .*'\/x'/],
  [{ source: "/a", mask: { paths: ["a", "../x"] } }, /^options\.mask\.paths\[1\]/],
  [{ source: "/a", mask: { paths: [""] } }, /^options\.mask\.paths\[0\]/],
  [{ source: "/a", access: "rw", mask: { paths: ["x"], storage: "s" } }, /^options\.mask\.storage/],
  [{ source: "/a", mask: { paths: ["x"], storage: "/s" } }, /^options\.mask\.storage: .*"rw" only/],
];

for (const [options, message] of wrongBinds) {
  test(`fs.bind refuses what fails with ${message}`, () => {
    refused(() => fs.bind(options as { source: string }), message);
  });
}

test("fs.virtual refuses what is no file system, and wrong options", () => {
  const wrong: [unknown, unknown, RegExp][] = [
    [undefined, {}, /^fileSystem: .*undefined/],
    [{ ...reader, list: undefined }, {}, /^fileSystem\.list: expected a function, got undefined/],
    [{ ...reader, mkdir: true }, {}, /^fileSystem\.mkdir: .*true/],
    [{ ...reader, rawPaths: 1 }, {}, /^fileSystem\.rawPaths: .*1/],
    [reader, { cacheMs: 60_001 }, /^options\.cacheMs/],
    [reader, { deadlineMs: 0 }, /^options\.deadlineMs/],
    [reader, { readonly: true }, /^options\.readonly: unknown/],
  ];
  for (const [object, options, message] of wrong) {
    refused(() => fs.virtual(object as FileSystem, options as object), message);
  }
});

test("wrong mounts are refused before anything starts, by path and value", () => {
  const memory = fs.memory();
  const wrong: [unknown, RegExp][] = [
    [[], /^options\.mounts: /],
    ["x", /^options\.mounts: .*'x'/],
    [{ relative: memory }, /^options\.mounts\["relative"\]: .*normal form/],
    [{ "/a/": memory }, /^options\.mounts\["\/a\/"\]/],
    [{ "/": memory }, /^options\.mounts\["\/"\]: .*root/],
    [{ "/dev/shm": memory }, /^options\.mounts\["\/dev\/shm"\]: nothing can be mounted in \/dev/],
    [{ "/a": reader }, /^options\.mounts\["\/a"\]: .*what a function of `fs` returns/],
    [{ "/a": undefined }, /^options\.mounts\["\/a"\]: .*undefined/],
    [
      { "/a": fs.bind({ source: join(host, "no") }) },
      /^options\.mounts\["\/a"\]\.source: .*ENOENT/,
    ],
    [
      { "/a": fs.bind({ source: join(host, "file") }) },
      /^options\.mounts\["\/a"\]\.source: .*not a directory/,
    ],
    [
      {
        "/a": fs.bind({ source: host, access: "rw", mask: { paths: ["x"], storage: "/nonesuch" } }),
      },
      /^options\.mounts\["\/a"\]\.mask\.storage: .*ENOENT/,
    ],
    [
      Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`/${i}`, memory])),
      /^options\.mounts: 17 mounts, where 16/,
    ],
  ];
  for (const [mounts, message] of wrong) refused(() => planBoot(definition, { mounts }), message);
  assert.deepEqual(setup.notes(), []);
});
