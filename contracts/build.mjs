// Compiles each contract into the artifact that the Python package ships; `--check` compares instead of writing, and a
// name (`node build.mjs Token`) builds that contract only. Each is compiled by itself, so that none depends on the others.
//
// solc-js is WebAssembly with no other input than what is read here, so that the same sources give the same bytes on
// every machine. Which sources these were is in the artifact.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const ARTIFACTS = join(HERE, "../src/distrai/ledger/artifacts");
const NAMES = ["RunRegistry", "Token", "TrainingRecords", "StakeManager", "RewardsDistributor"];
const CODE_BYTES_MAX = 24576; // EIP-170

const settings = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 10000 },
  viaIR: true,
  metadata: { appendCBOR: false, bytecodeHash: "none" },
};

function read(path, sources) {
  const file = path.startsWith("@") ? join(HERE, "node_modules", path) : join(HERE, path);
  try {
    const contents = readFileSync(file, "utf8");
    sources[path] = createHash("sha256").update(contents).digest("hex");
    return { contents };
  } catch {
    return { error: `there is no ${path}` };
  }
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

function compile(name) {
  if (!existsSync(join(HERE, "node_modules/solc"))) fail("the compiler is missing: run `npm ci` in contracts/");
  const solc = createRequire(import.meta.url)("solc");
  const selection = { "*": { [name]: ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } };
  const entry = `src/${name}.sol`;
  const sources = {};
  const input = {
    language: "Solidity",
    sources: { [entry]: { content: read(entry, sources).contents } },
    settings: { ...settings, outputSelection: selection },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: (path) => read(path, sources) }));
  for (const problem of output.errors ?? []) console.error(problem.formattedMessage);
  if (output.errors?.length) fail("warnings count as errors");
  return { contract: output.contracts[entry][name], sources, version: solc.version() };
}

function artifact(name) {
  const { contract, sources, version } = compile(name);
  const size = contract.evm.deployedBytecode.object.length / 2;
  if (size > CODE_BYTES_MAX) fail(`${name} has ${size} bytes of code, ${CODE_BYTES_MAX} are allowed`);
  console.log(`${name}: ${size} bytes of code`);
  const sorted = Object.fromEntries(Object.entries(sources).sort(([a], [b]) => (a < b ? -1 : 1)));
  const sourceHash = createHash("sha256").update(JSON.stringify(sorted)).digest("hex");
  const content = {
    contract: name,
    license: "Apache-2.0",
    compiler: { name: "solc", version, settings },
    sourceHash,
    sources: sorted,
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
  };
  return `${JSON.stringify(content, null, 1)}\n`;
}

const chosen = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
for (const name of chosen.length ? chosen : NAMES) {
  const built = artifact(name);
  const path = join(ARTIFACTS, `${name}.json`);
  if (process.argv.includes("--check")) {
    const committed = existsSync(path) ? readFileSync(path, "utf8") : "";
    if (committed !== built) fail(`${name}.json is not what these sources compile to: run \`npm run build\` in contracts/`);
    console.log(`${name}.json is what these sources compile to`);
  } else {
    mkdirSync(ARTIFACTS, { recursive: true });
    writeFileSync(path, built);
    console.log(`written: src/distrai/ledger/artifacts/${name}.json`);
  }
}
