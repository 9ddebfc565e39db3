#!/usr/bin/env node
// The command `lanebox`. It reads its arguments, hands over to the command's own file, and ends with
// its exit status. Errors are one message and one remedy on stderr, never a stack.
import { readFileSync } from "node:fs";
import { SandboxError } from "../errors.js";
import { type Command, parseCommand, UsageError } from "./arguments.js";
import { HELP } from "./help.js";
import { BROKEN_PIPE_STATUS, isBrokenPipe, write } from "./output.js";

/** Exit status of `run` and `shell` when Lanebox, not the command, failed. */
const FAILED = 125;

function version(): string {
  return JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;
}

async function dispatch(command: Command): Promise<number> {
  switch (command.name) {
    case "run":
      return (await import("./run.js")).runCommand(command);
    case "shell":
      return (await import("./shell.js")).shellCommand(command);
    case "cp":
      return (await import("./cp.js")).copyCommand(command);
    case "doctor":
      return (await import("./doctor.js")).doctor(command, version());
    case "verify":
      return (await import("./verify.js")).verifyCommand(command);
    case "setup-macos": {
      const signed = await (await import("../setup-macos.js")).setupMacos();
      await write(process.stdout, `signed ${signed}\n`);
      return 0;
    }
    case "images":
      return (await import("./images.js")).images(command);
    case "image-info":
      return (await import("./image.js")).imageInfo(command);
    case "image-flatten":
      return (await import("./image.js")).flattenCommand(command);
    case "image-pull":
      return (await import("./pull.js")).pullCommand(command);
    case "help":
      await write(process.stdout, HELP);
      return 0;
    case "version":
      await write(process.stdout, `${version()}\n`);
      return 0;
  }
}

async function complain(error: unknown): Promise<void> {
  const message = error instanceof Error ? error.message : String(error);
  const remedy = error instanceof SandboxError && error.remedy ? `\n${error.remedy}` : "";
  await write(process.stderr, `lanebox: ${message}${remedy}\n`).catch(() => undefined);
}

async function main(argv: readonly string[]): Promise<number> {
  let command: Command;
  try {
    command = parseCommand(argv);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    await complain(new Error(`${error.message} (lanebox --help tells more)`));
    return 2;
  }
  try {
    return await dispatch(command);
  } catch (error) {
    if (isBrokenPipe(error)) return BROKEN_PIPE_STATUS;
    await complain(error);
    if (error instanceof UsageError) return 2;
    return command.name === "run" || command.name === "shell" ? FAILED : 1;
  }
}

// What was written is awaited by then, and stdin, which may be a terminal, must not hold the program.
process.exit(await main(process.argv.slice(2)));
