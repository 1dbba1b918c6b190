// The built server on a free port, for the tests of one file; it is killed with the process.
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const READY_MS = 120_000;

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

function credentials(path) {
  const value = (name) => readFileSync(path, "utf8").match(new RegExp(`^${name}\\s*=\\s*(\\S+)$`, "m"))[1];
  return { accessKeyId: value("aws_access_key_id"), secretAccessKey: value("aws_secret_access_key") };
}

/** Starts a server; answers what a client needs to talk to it, and `stop`. */
export async function startServer() {
  const binary = process.env.DRYSTONE_BIN;
  if (!binary) throw new Error("set DRYSTONE_BIN to the built server");
  const folder = mkdtempSync(join(tmpdir(), "drystone-javascript-"));
  const data = join(folder, "data");
  const port = await freePort();
  const log = openSync(join(folder, "log"), "a");
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(AWS|DRYSTONE)_/.test(name)));
  const child = spawn(binary, ["serve", "--listen", `127.0.0.1:${port}`, "--data", data], {
    stdio: ["ignore", log, log],
    env: clean,
  });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const endpoint = `http://127.0.0.1:${port}`;
  const deadline = Date.now() + READY_MS;
  for (;;) {
    const ready = await fetch(`${endpoint}/healthz`).then((answer) => answer.ok, () => false);
    if (ready) break;
    if (child.exitCode !== null || Date.now() > deadline) {
      kill();
      throw new Error(`the server is not ready:\n${readFileSync(join(folder, "log"), "utf8")}`);
    }
    await sleep(20);
  }
  const stop = async () => {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    const status = await Promise.race([ended, sleep(100_000, "still running", { ref: false })]);
    kill();
    rmSync(folder, { recursive: true, force: true });
    return status;
  };
  const client = { endpoint, region: "us-east-1", credentials: credentials(join(data, "credentials")), maxAttempts: 1 };
  return { client, stop };
}
