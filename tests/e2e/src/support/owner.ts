/**
 * A program that owns a lane, for tests that kill it: boots, says so, and waits.
 * Arguments: none. Prints "booting" before and "booted" after the boot.
 */

import { setInterval } from "node:timers";
import { boot } from "./lane.js";

process.stdout.write("booting\n");
const vm = await boot();
void vm.exec("sleep", ["600"]).catch(() => {});
process.stdout.write("booted\n");
setInterval(() => {}, 1000);
