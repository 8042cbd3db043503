// Helpers shared by tests and pictures: execpath, and a browser without network requests.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const needed = (name) => process.env[name] ?? assert.fail(`${name} is not set: cargo xtask test --only browser sets it`);

const PROGRAM = needed("EXECPATH_PROGRAM");
const CROWD = needed("EXECPATH_CROWD");
const ROOT = needed("EXECPATH_ROOT");

export const work = mkdtempSync(path.join(tmpdir(), "execpath-browser-"));
process.on("exit", () => rmSync(work, { recursive: true, force: true }));

/** A recording of the repository. */
export function recording(name) {
  return path.join(ROOT, "tests/recordings", name);
}

/** A recording of this many sessions; with `hostile`, names contain markup and control characters. */
export function crowd(sessions, ...more) {
  const file = path.join(work, `crowd-${[sessions, ...more].join("-")}.jsonl`);
  if (!existsSync(file)) execFileSync(CROWD, [String(sessions), file, ...more]);
  return file;
}

/** Renders a recording. Returns the path of the output. */
export function render(file, format, ...more) {
  const out = path.join(work, `${path.basename(file)}.${format}`);
  const ran = spawnSync(PROGRAM, ["render", file, "--kind", "all", "-o", `${format}=${out}`, ...more], { encoding: "utf8" });
  assert.equal(ran.status, 0, ran.stderr);
  return out;
}

export function launch() {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
}

/** Opens a file. Collects all requests, console messages, errors and dialogs of the page. */
export async function open(browser, file, options = {}) {
  const { hash = "", ...more } = options;
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...more });
  const seen = { requests: [], complaints: [] };
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("console", (message) => seen.complaints.push(message.text()));
  page.on("pageerror", (error) => seen.complaints.push(String(error)));
  page.on("dialog", (dialog) => {
    seen.complaints.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  const url = pathToFileURL(file).href;
  await page.goto(url + hash);
  return { page, seen, url };
}

/** Checks that the page requested nothing but itself, and reported no message or error. */
export function isQuiet({ seen, url }) {
  assert.deepEqual(seen.complaints, []);
  assert.deepEqual(seen.requests.filter((request) => request.split("#")[0] !== url), []);
}
