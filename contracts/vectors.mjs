// Roots and proofs of rewards as OpenZeppelin's own package makes them, for tests/vectors/rewards.json; `--check` compares.
//
// For each size from 1 to 300: the root, and the beginning of the SHA-256 of all proofs one after the other.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { StandardMerkleTree } from "@openzeppelin/merkle-tree";

const FILE = join(dirname(fileURLToPath(import.meta.url)), "../tests/vectors/rewards.json");
const SIZES = 300;
const CHAIN_ID = 31337n;
const DISTRIBUTOR = `0x${"d1".repeat(20)}`;
const RUN = 7n;

const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const amount = (row) => BigInt(`0x${sha256(`amount ${row}`).slice(0, 4 + (row % 28))}`);
const leaf = (row) => [CHAIN_ID, DISTRIBUTOR, RUN, `0x${sha256(`member ${row}`)}`, amount(row)];

function vector(size) {
  const rows = Array.from({ length: size }, (_, row) => leaf(row));
  const tree = StandardMerkleTree.of(rows, ["uint256", "address", "uint64", "bytes32", "uint128"]);
  const proofs = rows.map((_, row) => tree.getProof(row).map((hash) => hash.slice(2)).join(""));
  return tree.root.slice(2) + sha256(Buffer.from(proofs.join(""), "hex")).slice(0, 16);
}

const made = `${JSON.stringify(Array.from({ length: SIZES }, (_, at) => vector(at + 1)), null, 0).replaceAll(",", ",\n")}\n`;
if (process.argv.includes("--check")) {
  const committed = existsSync(FILE) ? readFileSync(FILE, "utf8") : "";
  if (committed !== made) {
    console.error("tests/vectors/rewards.json is not what OpenZeppelin's package gives: run `npm run vectors` in contracts/");
    process.exit(1);
  }
  console.log("rewards.json is what OpenZeppelin's package gives");
} else {
  writeFileSync(FILE, made);
  console.log("written: tests/vectors/rewards.json");
}
