// The first program as Node 24 lets it be written: the lane is closed when its block is left.

import { defineSandbox, rootfs } from "lanebox";

const sandbox = defineSandbox({
  rootfs: rootfs.builtIn("debian:12"),
  isolation: { minimum: "emulated" },
});

await using vm = await sandbox.boot();
const { stdout } = await vm.exec("uname", ["-sr"]);
console.log(stdout.trimEnd());
