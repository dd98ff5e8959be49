// Compile src/ with solc-js into the artifact that ships in the wheel; with --check compare instead of writing.
//
//   node build.mjs           write ../src/distrai/ledger/artifacts/RunRegistry.json
//   node build.mjs --check   exit 1 if the committed artifact is not what these sources give
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const solc = require("solc");
const target = join(here, "..", "src", "distrai", "ledger", "artifacts", "RunRegistry.json");
const settings = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 10000 },
  viaIR: true,
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

const names = readdirSync(join(here, "src")).filter((name) => name.endsWith(".sol")).sort();
const sources = Object.fromEntries(
  names.map((name) => [`src/${name}`, { content: readFileSync(join(here, "src", name), "utf8") }]),
);

function readImport(path) {
  const file = path.startsWith("@") ? join(here, "node_modules", path) : join(here, path);
  return existsSync(file) ? { contents: readFileSync(file, "utf8") } : { error: `no file ${path}` };
}

const input = {
  language: "Solidity",
  sources,
  settings: { ...settings, outputSelection: { "src/RunRegistry.sol": { RunRegistry: ["abi", "evm.bytecode.object"] } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
for (const problem of output.errors ?? []) console.error(problem.formattedMessage);
if ((output.errors ?? []).length > 0) process.exit(1); // warnings count: a contract that warns is not finished

const contract = output.contracts["src/RunRegistry.sol"].RunRegistry;
const sourceHash = createHash("sha256").update(JSON.stringify(sources)).digest("hex");
const artifact = {
  contract: "RunRegistry",
  compiler: solc.version(),
  settings,
  sourceHash,
  abi: contract.abi,
  bytecode: "0x" + contract.evm.bytecode.object,
};
const text = JSON.stringify(artifact, null, 1) + "\n";
if (process.argv.includes("--check")) {
  if (!existsSync(target) || readFileSync(target, "utf8") !== text) {
    console.error("the committed artifact is not what contracts/src gives: run 'make artifacts' and commit it");
    process.exit(1);
  }
  console.log("the committed artifact is what contracts/src gives");
} else {
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, text);
  console.log(`wrote RunRegistry.json (${(artifact.bytecode.length - 2) / 2} bytes of bytecode)`);
}
