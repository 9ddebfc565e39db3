import { defineSandbox, rootfs } from "lanebox";

const sandbox = defineSandbox({
  rootfs: rootfs.builtIn("debian:12"),
  resources: { cpus: 2, memoryMiB: 512 },
  // The default accepts hardware virtualization only. This also accepts software emulation, so that
  // the program runs on machines without it: the same VM, slower, behind a weaker wall.
  isolation: { minimum: "emulated" },
});

const vm = await sandbox.boot({ cwd: "/workspace" });
try {
  const result = await vm.exec("sh", ["-c", "uname -sr; git --version; echo $((6 * 7))"]);
  console.log(result.stdout);
  console.log(`exit code ${result.exitCode}, isolation ${vm.isolation.kind} by ${vm.isolation.engine}`);
} finally {
  await vm.close(); // On Node 24: `await using vm = await sandbox.boot()` does this by itself.
}
