import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parseCommand, UsageError } from "./arguments.js";

test("run has its defaults and takes everything after --", () => {
  assert.deepEqual(parseCommand(["run", "--", "sh", "-c", "--image", "--", "x"]), {
    name: "run",
    image: "debian:12",
    persistent: undefined,
    cpus: undefined,
    memoryMiB: undefined,
    env: {},
    timeoutMs: undefined,
    isolation: undefined,
    mounts: [],
    publish: [],
    allowHosts: [],
    command: "sh",
    args: ["-c", "--image", "--", "x"],
  });
});

test("run takes its options", () => {
  const given = [
    "--image",
    "busybox:1.35",
    "--cpus=2",
    "--memory",
    "300",
    "--env",
    "A=b=c",
    "-e",
    "B=",
  ];
  const more = ["--timeout", "1.5", "--isolation", "emulated", "--persistent", "/disk"];
  assert.deepEqual(parseCommand(["run", ...given, ...more, "--", "true"]), {
    name: "run",
    image: "busybox:1.35",
    persistent: "/disk",
    cpus: 2,
    memoryMiB: 300,
    env: { A: "b=c", B: "" },
    timeoutMs: 1500,
    isolation: "emulated",
    mounts: [],
    publish: [],
    allowHosts: [],
    command: "true",
    args: [],
  });
});

test("run takes mounts; a source is relative to the working directory and may hold colons", () => {
  const colon = mkdtempSync(join(tmpdir(), "lanebox:mount-"));
  try {
    const given = [
      "--mount",
      ".:/workspace",
      "--mount",
      `${colon}:/mnt/a:ro`,
      "--mount",
      "/:/host",
    ];
    const command = parseCommand(["run", ...given, "--", "true"]);
    assert(command.name === "run");
    assert.deepEqual(command.mounts, [
      { source: process.cwd(), target: "/workspace", access: "rw" },
      { source: colon, target: "/mnt/a", access: "ro" },
      { source: "/", target: "/host", access: "rw" },
    ]);
  } finally {
    rmSync(colon, { recursive: true });
  }
});

test("run and shell take ports to publish and hosts to allow", () => {
  for (const name of ["run", "shell"] as const) {
    const ports = ["-p", "80", "-p", "8080:80", "-p", "0.0.0.0:8081:81", "-p", "[::1]::82"];
    const hosts = ["--allow-host", "API.example.com.", "--allow-host", "*.example.org"];
    const command = parseCommand([name, ...ports, ...hosts, "--publish=0:83", "--", "true"]);
    assert(command.name === name);
    assert.deepEqual(command.publish, [
      { guestPort: 80, hostPort: 0, host: undefined },
      { guestPort: 80, hostPort: 8080, host: undefined },
      { guestPort: 81, hostPort: 8081, host: "0.0.0.0" },
      { guestPort: 82, hostPort: 0, host: "::1" },
      { guestPort: 83, hostPort: 0, host: undefined },
    ]);
    assert.deepEqual(command.allowHosts, ["api.example.com", "*.example.org"]);
  }
});

test("shell has the options of run but for the timeout, and a login shell without a command", () => {
  const plain = {
    persistent: undefined,
    cpus: undefined,
    memoryMiB: undefined,
    env: {},
    isolation: undefined,
    mounts: [],
    publish: [],
    allowHosts: [],
  };
  assert.deepEqual(parseCommand(["shell", "--image", "busybox:1.35"]), {
    name: "shell",
    image: "busybox:1.35",
    ...plain,
    command: [],
  });
  const mounted = parseCommand(["shell", "--mount", "/:/host:ro"]);
  assert(mounted.name === "shell");
  assert.deepEqual(mounted.mounts, [{ source: "/", target: "/host", access: "ro" }]);
  const own = parseCommand(["shell", "--", "top", "-d", "1"]);
  assert.deepEqual(own, {
    name: "shell",
    image: "debian:12",
    ...plain,
    command: ["top", "-d", "1"],
  });
  for (const wrong of [
    ["shell", "--timeout", "1"],
    ["shell", "--"],
    ["shell", "ls"],
  ]) {
    assert.throws(() => parseCommand(wrong), UsageError);
  }
});

test("cp copies from the guest, and into a root that is kept", () => {
  const out = ["cp", "--image", "busybox:1.35", "guest:/etc", "here"];
  assert.deepEqual(parseCommand(out), {
    name: "cp",
    image: "busybox:1.35",
    persistent: undefined,
    isolation: undefined,
    direction: "out",
    guestPath: "/etc",
    hostPath: "here",
  });
  assert.deepEqual(parseCommand(["cp", "--persistent", "/disk", "here", "guest:/etc"]), {
    name: "cp",
    image: "debian:12",
    persistent: "/disk",
    isolation: undefined,
    direction: "in",
    guestPath: "/etc",
    hostPath: "here",
  });
  for (const wrong of [
    ["cp"],
    ["cp", "a", "b"],
    ["cp", "guest:/a"],
    ["cp", "a", "guest:/b"],
    ["cp", "--persistent", "", "a", "guest:/b"],
    ["cp", "--persistent", "/disk", "guest:/a", "guest:/b"],
    ["cp", "--persistent", "/disk", "a", "guest:b"],
  ]) {
    assert.throws(() => parseCommand(wrong), UsageError);
  }
});

test("doctor --verify has a manifest and no isolation, and setup-macos takes nothing", () => {
  assert.deepEqual(parseCommand(["doctor", "--verify"]), {
    name: "verify",
    json: false,
    manifest: undefined,
  });
  assert.deepEqual(
    parseCommand(["doctor", "--verify", "--json", "--manifest", "/a/release.json"]),
    {
      name: "verify",
      json: true,
      manifest: "/a/release.json",
    },
  );
  assert.deepEqual(parseCommand(["setup-macos"]), { name: "setup-macos" });
});

test("doctor, images, help and version", () => {
  assert.deepEqual(parseCommand(["doctor"]), { name: "doctor", json: false, isolation: undefined });
  assert.deepEqual(parseCommand(["doctor", "--json", "--isolation", "hardware"]), {
    name: "doctor",
    json: true,
    isolation: "hardware",
  });
  assert.deepEqual(parseCommand(["images", "--json"]), { name: "images", json: true });
  for (const help of [
    ["--help"],
    ["-h"],
    ["help"],
    ["run", "--help"],
    ["doctor", "-h"],
    ["images", "--help"],
  ]) {
    assert.deepEqual(parseCommand(help), { name: "help" });
  }
  assert.deepEqual(parseCommand(["--version"]), { name: "version" });
});

test("image info and flatten", () => {
  assert.deepEqual(parseCommand(["image", "info", "debian:12"]), {
    name: "image-info",
    disk: { image: { name: "debian:12" }, format: undefined, persistent: undefined },
    json: false,
  });
  const argv = ["image", "flatten", "--format", "raw", "--persistent", "/b", "/a.qcow2", "/c"];
  assert.deepEqual(parseCommand([...argv, "--cluster-size", "4096", "--no-compress"]), {
    name: "image-flatten",
    disk: { image: { path: "/a.qcow2" }, format: "raw", persistent: "/b" },
    dest: "/c",
    clusterSize: 4096,
    compress: false,
  });
  const file = parseCommand(["image", "info", "./a.img", "--json"]);
  assert(file.name === "image-info" && file.disk.format === "raw" && file.json);
  assert.deepEqual(parseCommand(["image", "--help"]), { name: "help" });
});

const wrong: [string[], RegExp][] = [
  [["image"], /missing after image/],
  [["image", "walk"], /'image walk'/],
  [["image", "info"], /takes one image/],
  [["image", "info", "a:1", "b:1"], /takes one image/],
  [["image", "info", "debian"], /IMAGE: .*'debian'/],
  [["image", "info", "./disk"], /format of '\.\/disk'.*--format/],
  [["image", "info", "--format", "vmdk", "./disk"], /--format: .*'vmdk'/],
  [["image", "info", "--format", "raw", "debian:12"], /--format: it is for files/],
  [["image", "info", "--persistent", "", "debian:12"], /--persistent/],
  [["image", "flatten", "debian:12"], /an image and a file to make/],
  [["image", "flatten", "--cluster-size", "5000", "debian:12", "x"], /--cluster-size: .*5000/],
  [["image", "flatten", "--json", "debian:12", "x"], /--json/],
  [[], /command is missing/],
  [["walk"], /unknown command 'walk'/],
  [["--colour"], /unknown option '--colour'/],
  [["run"], /command is missing/],
  [["run", "--"], /command is missing/],
  [["run", "--colour", "--", "true"], /--colour/],
  [["run", "true"], /true/],
  [["run", "--cpus", "none", "--", "true"], /--cpus: .*'none'/],
  [["run", "--cpus", "", "--", "true"], /--cpus/],
  [["run", "--cpus", "1.5", "--", "true"], /--cpus/],
  [["run", "--cpus", "0x2", "--", "true"], /--cpus/],
  [["run", "--cpus", "65", "--", "true"], /--cpus/],
  [["run", "--cpus", "--", "true"], /--cpus/],
  [["run", "--memory", "64", "--", "true"], /--memory/],
  [["run", "--image", "debian", "--", "true"], /--image/],
  [["run", "--image", "debian:latest", "--", "true"], /moving aliases/],
  [["run", "--env", "NOVALUE", "--", "true"], /--env: .*'NOVALUE'/],
  [["run", "--env", "=x", "--", "true"], /--env/],
  [["run", "--timeout", "0", "--", "true"], /--timeout/],
  [["run", "--timeout", "soon", "--", "true"], /--timeout: .*'soon'/],
  [["run", "--timeout", "2147484", "--", "true"], /--timeout/],
  [["run", "--mount", "src", "--", "true"], /--mount: expected SRC:DST.*'src'/],
  [["run", "--mount", ":/x", "--", "true"], /--mount: expected SRC:DST/],
  [["run", "--mount", ".:x", "--", "true"], /--mount: expected SRC:DST/],
  [["run", "--mount", ".:/x/", "--", "true"], /--mount: .*normal form.*'\/x\/'/],
  [["run", "--mount", ".:/x:rx", "--", "true"], /--mount: expected SRC:DST/],
  [["run", "--mount", ".:/", "--", "true"], /--mount: '\/'/],
  [["run", "--mount", "/nonesuch:/x", "--", "true"], /--mount: '\/nonesuch'.*ENOENT/],
  [["run", "--mount", "/etc/passwd:/x", "--", "true"], /--mount: .*not a directory/],
  [["run", "--mount", ".:/x", "--mount", "/:/x:ro", "--", "true"], /--mount: '\/x'.*twice/],
  [["run", "-p", "", "--", "true"], /--publish: expected .*''/],
  [["run", "-p", "a", "--", "true"], /--publish: expected .*'a'/],
  [["run", "-p", "::1:1:2", "--", "true"], /--publish: expected .*'::1:1:2'/],
  [["run", "-p", "0", "--", "true"], /--publish: .* 1 to 65535, got 0/],
  [["run", "-p", "65536:1", "--", "true"], /--publish: .* 0 to 65535, got 65536/],
  [["run", "-p", "localhost:1:2", "--", "true"], /--publish: .*IP address.*'localhost'/],
  [["run", "--allow-host", "1.2.3.4", "--", "true"], /--allow-host: .*no address.*'1.2.3.4'/],
  [["run", "--allow-host", "a b", "--", "true"], /--allow-host: .*'a b'/],
  [["run", "--isolation", "none", "--", "true"], /--isolation: .*'none'/],
  [["doctor", "extra"], /extra/],
  [["doctor", "--manifest", "release.json"], /--manifest: .*--verify/],
  [["doctor", "--verify", "--manifest", ""], /--manifest: /],
  [["doctor", "--verify", "--isolation", "emulated"], /--isolation: /],
  [["setup-macos", "extra"], /extra/],
  [["images", "--isolation", "hardware"], /--isolation/],
];

for (const [argv, message] of wrong) {
  test(`'lanebox ${argv.join(" ")}' is refused in one line that names it`, () => {
    assert.throws(
      () => parseCommand(argv),
      (error) => {
        assert(error instanceof UsageError, String(error));
        assert.match(error.message, message);
        assert(!error.message.includes("\n"));
        return true;
      },
    );
  });
}
