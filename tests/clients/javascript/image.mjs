// An ext4 image of real files, changed inside; a generated image where e2fsprogs is missing.
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, ftruncateSync, mkdirSync, openSync, closeSync, readFileSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";

export const BLOCK = 524288;
const SIZE = 32 << 20;

const tool = (name) => ["/usr/sbin", "/sbin", "/usr/bin"].map((folder) => join(folder, name)).find(existsSync);
const complete = ["mke2fs", "debugfs", "e2fsck"].every(tool);

function run(name, ...words) {
  const done = spawnSync(tool(name), words, { encoding: "utf8", timeout: 150_000 });
  if (done.status !== 0) throw new Error(`${name} ${words.join(" ")}: ${done.stdout}${done.stderr}`);
}

/** Bytes that do not compress, the same for the same seed. */
export function unique(seed, bytes = BLOCK) {
  const out = Buffer.alloc(bytes);
  for (let at = 0, n = 0; at < bytes; at += 32, n++) {
    createHash("sha256").update(`${seed} ${n}`).digest().copy(out, at);
  }
  return out;
}

export function check(path) {
  if (complete) run("e2fsck", "-f", "-n", path);
}

export function build(folder) {
  const image = join(folder, "image");
  if (!complete) {
    writeFileSync(image, Buffer.concat([unique("image", SIZE / 4), Buffer.alloc(SIZE - SIZE / 4)]));
    return image;
  }
  const descriptor = openSync(image, "w");
  ftruncateSync(descriptor, SIZE);
  closeSync(descriptor);
  const tree = join(folder, "tree");
  mkdirSync(tree);
  // The sources of the SDK that is under test are real files.
  cpSync(join("node_modules", "@aws-sdk", "client-ebs"), join(tree, "client-ebs"), { recursive: true });
  writeFileSync(join(tree, "big"), unique("big", 4 << 20));
  run("mke2fs", "-q", "-t", "ext4", "-d", tree, image);
  check(image);
  return image;
}

export function change(image, folder) {
  const changed = join(folder, "changed");
  copyFileSync(image, changed);
  if (!complete) {
    const data = readFileSync(changed);
    for (const at of [0, 3 << 20, 20 << 20]) unique(`change ${at}`, 1024).copy(data, at);
    writeFileSync(changed, data);
    return changed;
  }
  const added = join(folder, "added");
  writeFileSync(added, unique("added", 2 << 20));
  const script = join(folder, "script");
  writeFileSync(script, `write ${added} added\nrm client-ebs/package.json\n`);
  run("debugfs", "-w", "-f", script, changed);
  check(changed);
  return changed;
}

/** Map of index to data, of the blocks that are not all zeros. */
export function blocks(path) {
  const data = readFileSync(path);
  const zero = Buffer.alloc(BLOCK);
  const found = new Map();
  for (let index = 0; index * BLOCK < data.length; index++) {
    const block = data.subarray(index * BLOCK, (index + 1) * BLOCK);
    if (!block.equals(zero)) found.set(index, block);
  }
  return found;
}

/** What a client uploads for a child; zeros where something went away. */
export function difference(before, after) {
  const zero = Buffer.alloc(BLOCK);
  const indexes = [...new Set([...before.keys(), ...after.keys()])].sort((a, b) => a - b);
  const pairs = indexes.map((index) => [index, before.get(index) ?? zero, after.get(index) ?? zero]);
  return new Map(pairs.filter(([, old, now]) => !old.equals(now)).map(([index, , now]) => [index, now]));
}

export function write(found, path) {
  const data = Buffer.alloc(SIZE);
  for (const [index, block] of found) block.copy(data, index * BLOCK);
  writeFileSync(path, data);
  return path;
}
