#!/usr/bin/env node
// The compiler of package-lock.json as forge calls it: `--version`, or standard JSON from stdin to stdout.
//
// Writes synchronously: process.exit() after an asynchronous write cuts a long answer off.
import { readFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";

function print(text) {
  const bytes = Buffer.from(text);
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(1, bytes, written);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error; // the pipe is full: try again
    }
  }
}

if (process.argv.includes("--version")) {
  // Not from the compiler itself, since loading it takes seconds and forge asks several times.
  const { version } = createRequire(import.meta.url)("solc/package.json");
  print(`solc, the solidity compiler\nVersion: ${version}+commit.00000000\n`);
} else {
  const solc = createRequire(import.meta.url)("solc");
  print(solc.compile(readFileSync(0, "utf8")));
}
