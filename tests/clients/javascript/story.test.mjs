// The JavaScript SDK v3 against the server: it signs the body of every put.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";

import {
  CompleteSnapshotCommand,
  ConflictException,
  EBSClient,
  GetSnapshotBlockCommand,
  ListChangedBlocksCommand,
  ListSnapshotBlocksCommand,
  PutSnapshotBlockCommand,
  ResourceNotFoundException,
  StartSnapshotCommand,
  ValidationException,
  paginateListChangedBlocks,
  paginateListSnapshotBlocks,
} from "@aws-sdk/client-ebs";
import {
  CreateTagsCommand,
  DeleteSnapshotCommand,
  DescribeSnapshotsCommand,
  EC2Client,
  waitUntilSnapshotCompleted,
} from "@aws-sdk/client-ec2";

import { BLOCK, blocks, build, change, check, difference, unique, write } from "./image.mjs";
import { startServer } from "./server.mjs";

const LIMIT = { timeout: 240_000 };
const sha256 = (data) => createHash("sha256").update(data).digest();
const checksum = (data) => sha256(data).toString("base64");

let server, ebs, ec2, folder;

before(async () => {
  server = await startServer();
  ebs = new EBSClient(server.client);
  ec2 = new EC2Client(server.client);
  folder = mkdtempSync(join(tmpdir(), "drystone-javascript-"));
}, LIMIT);

after(async () => {
  rmSync(folder, { recursive: true, force: true });
  ebs?.destroy();
  ec2?.destroy();
  if (server) assert.equal(await server.stop(), 0);
}, LIMIT);

const start = async (more = {}) => (await ebs.send(new StartSnapshotCommand({ VolumeSize: 1, ...more }))).SnapshotId;

const put = (snapshot, index, data, more = {}) =>
  ebs.send(
    new PutSnapshotBlockCommand({
      SnapshotId: snapshot,
      BlockIndex: index,
      BlockData: data,
      DataLength: BLOCK,
      Checksum: checksum(data),
      ChecksumAlgorithm: "SHA256",
      ...more,
    }),
  );

const wait = (snapshot) =>
  waitUntilSnapshotCompleted({ client: ec2, maxWaitTime: 150, minDelay: 1, maxDelay: 1 }, { SnapshotIds: [snapshot] });

async function inParallel(items, work, width = 8) {
  const rest = [...items];
  const worker = async () => {
    while (rest.length) await work(rest.shift());
  };
  await Promise.all(Array.from({ length: width }, worker));
}

async function upload(found, more) {
  const snapshot = await start(more);
  await inParallel(found, ([index, data]) => put(snapshot, index, data));
  const inOrder = [...found.keys()].sort((a, b) => a - b).map((index) => sha256(found.get(index)));
  const answer = await ebs.send(
    new CompleteSnapshotCommand({
      SnapshotId: snapshot,
      ChangedBlocksCount: found.size,
      Checksum: checksum(Buffer.concat(inOrder)),
      ChecksumAlgorithm: "SHA256",
      ChecksumAggregationMethod: "LINEAR",
    }),
  );
  assert.equal(answer.Status, "pending");
  await wait(snapshot);
  return snapshot;
}

async function get(snapshot, index, token) {
  const answer = await ebs.send(
    new GetSnapshotBlockCommand({ SnapshotId: snapshot, BlockIndex: index, BlockToken: token }),
  );
  const data = Buffer.from(await answer.BlockData.transformToByteArray());
  assert.equal(data.length, BLOCK);
  assert.equal(answer.DataLength, BLOCK);
  assert.equal(answer.Checksum, checksum(data));
  return data;
}

async function download(snapshot) {
  const found = new Map();
  for await (const page of paginateListSnapshotBlocks({ client: ebs, pageSize: 100 }, { SnapshotId: snapshot })) {
    await inParallel(page.Blocks, async ({ BlockIndex, BlockToken }) => {
      found.set(BlockIndex, await get(snapshot, BlockIndex, BlockToken));
    });
  }
  return found;
}

test("a disk goes in and comes back", LIMIT, async () => {
  const original = build(folder);
  const first = blocks(original);
  const snapshot = await upload(first, { Description: "whole disk" });
  const changed = change(original, folder);
  const changes = difference(first, blocks(changed));
  assert.ok(changes.size > 0 && changes.size < first.size);
  const child = await upload(changes, { ParentSnapshotId: snapshot });

  const listed = [];
  const both = { FirstSnapshotId: snapshot, SecondSnapshotId: child };
  for await (const page of paginateListChangedBlocks({ client: ebs }, both)) listed.push(...page.ChangedBlocks);
  assert.deepEqual(listed.map((block) => block.BlockIndex), [...changes.keys()]);
  for (const { BlockIndex, FirstBlockToken, SecondBlockToken } of listed) {
    assert.equal(Boolean(FirstBlockToken), first.has(BlockIndex));
    assert.ok(changes.get(BlockIndex).equals(await get(child, BlockIndex, SecondBlockToken)));
  }

  for (const [source, image, name] of [[snapshot, original, "first"], [child, changed, "second"]]) {
    const restored = write(await download(source), join(folder, name));
    assert.ok(readFileSync(restored).equals(readFileSync(image)), name);
    check(restored);
  }
  const seen = await ec2.send(new DescribeSnapshotsCommand({ SnapshotIds: [child] }));
  assert.equal(seen.Snapshots[0].State, "completed");
  assert.ok(seen.Snapshots[0].StartTime instanceof Date);
});

test("answers have their types", LIMIT, async () => {
  const request = { VolumeSize: 3, Description: "größer ☃", Tags: [{ Key: "k", Value: "v" }] };
  const answer = await ebs.send(new StartSnapshotCommand(request));
  assert.equal(answer.$metadata.httpStatusCode, 201);
  assert.ok(answer.StartTime instanceof Date && Math.abs(Date.now() - answer.StartTime) < 60_000);
  assert.equal(answer.VolumeSize, 3);
  assert.equal(answer.Description, "größer ☃");
  assert.deepEqual(answer.Tags, [{ Key: "k", Value: "v" }]);
  await ec2.send(new CreateTagsCommand({ Resources: [answer.SnapshotId], Tags: [{ Key: "more", Value: "" }] }));
  const filter = { Name: "tag-key", Values: ["more"] };
  const found = await ec2.send(new DescribeSnapshotsCommand({ Filters: [filter] }));
  assert.deepEqual(found.Snapshots.map((seen) => seen.SnapshotId), [answer.SnapshotId]);
});

test("a stream is a body", LIMIT, async () => {
  const data = unique("stream");
  const snapshot = await start();
  const pieces = Array.from({ length: 8 }, (_, i) => data.subarray((i * BLOCK) / 8, ((i + 1) * BLOCK) / 8));
  const answer = await put(snapshot, 1, data, { BlockData: Readable.from(pieces, { objectMode: false }) });
  assert.equal(answer.Checksum, checksum(data));
});

test("64 puts and gets at once", LIMIT, async () => {
  const found = new Map(Array.from({ length: 96 }, (_, index) => [index, unique(`parallel ${index % 48}`)]));
  const snapshot = await start();
  await inParallel(found, ([index, data]) => put(snapshot, index, data), 64);
  await ebs.send(new CompleteSnapshotCommand({ SnapshotId: snapshot, ChangedBlocksCount: found.size }));
  await wait(snapshot);
  const listed = await ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: snapshot }));
  await inParallel(
    listed.Blocks,
    async ({ BlockIndex, BlockToken }) => assert.ok(found.get(BlockIndex).equals(await get(snapshot, BlockIndex, BlockToken))),
    64,
  );
});

test("errors are the modelled ones", LIMIT, async () => {
  const missing = "snap-0123456789abcdef1";
  await assert.rejects(ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: missing })), (error) => {
    assert.ok(error instanceof ResourceNotFoundException, error);
    assert.equal(error.Reason, "SNAPSHOT_NOT_FOUND");
    assert.equal(error.message, `The snapshot '${missing}' does not exist.`);
    return error.$metadata.httpStatusCode === 404;
  });
  const snapshot = await start();
  const data = unique("errors");
  await assert.rejects(put(snapshot, 2048, data), (error) => {
    assert.ok(error instanceof ValidationException, error);
    return error.Reason === "INVALID_BLOCK";
  });
  await assert.rejects(put(snapshot, 0, data, { Checksum: checksum("x") }), { name: "InvalidSignatureException" });
  await assert.rejects(ebs.send(new ListChangedBlocksCommand({ SecondSnapshotId: snapshot })), ValidationException);
  const token = { ClientToken: `javascript-${process.pid}` };
  await start(token);
  await assert.rejects(start({ ...token, VolumeSize: 2 }), ConflictException);
  await ec2.send(new DeleteSnapshotCommand({ SnapshotId: snapshot }));
  await assert.rejects(ec2.send(new DeleteSnapshotCommand({ SnapshotId: snapshot })), { name: "InvalidSnapshot.NotFound" });
});

test("a wrong key is refused", LIMIT, async () => {
  const credentials = { ...server.client.credentials, secretAccessKey: "x".repeat(40) };
  const stranger = new EBSClient({ ...server.client, credentials });
  await assert.rejects(stranger.send(new StartSnapshotCommand({ VolumeSize: 1 })), { name: "InvalidSignatureException" });
  stranger.destroy();
});
