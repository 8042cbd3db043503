// The look of drawings: nothing is cut off or overlaps, and the page is accessible.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import axe from "axe-core";
import { crowd, isQuiet, launch, open, recording, render } from "./browser.mjs";

const RECORDINGS = ["terminal.jsonl.zst", "kubectl-killed.jsonl.zst", "start-failed.jsonl.zst", "relay.jsonl.zst", "fixture-k8s-1.36-containerd-websocket-20.jsonl.zst"];
const MERMAID = createRequire(import.meta.url).resolve("mermaid").replace(/[^/]*$/, "mermaid.min.js");

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

/** Texts of a drawing that leave its frame or overlap. */
function clashes(root) {
  const all = [...root.querySelectorAll("text")].filter((text) => text.textContent.trim() && text.getBoundingClientRect().width);
  const boxes = all.map((text) => ({ text: text.textContent, box: text.getBoundingClientRect() }));
  const frame = root.getBoundingClientRect();
  const outside = boxes.filter(({ box }) => box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1);
  const over = [];
  boxes.forEach((one, index) => boxes.slice(index + 1).forEach((other) => {
    const width = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
    const height = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
    if (width > 1 && height > 3) over.push(`${one.text} | ${other.text}`);
  }));
  return [...outside.map(({ text }) => `outside: ${text}`), ...over];
}

test("pictures neither cut off nor overlap texts, wide and narrow", async () => {
  for (const name of RECORDINGS) {
    const file = render(recording(name), "html");
    for (const width of [1280, 700, 375]) {
      const opened = await open(browser, file, { viewport: { width, height: 900 } });
      assert.deepEqual(await opened.page.$eval("#picture svg", clashes), [], `${name} at ${width}`);
      const over = await opened.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(over, 0, `${name} at ${width}: the page is wider than the screen`);
      isQuiet(opened);
      await opened.page.close();
    }
  }
});

test("a separate drawing neither cuts off nor overlaps texts", async () => {
  for (const file of [...RECORDINGS.map(recording), crowd(9)]) {
    const opened = await open(browser, render(file, "svg"));
    assert.deepEqual(await opened.page.$eval("svg", clashes), [], file);
    isQuiet(opened);
    await opened.page.close();
  }
});

test("axe finds no violation, light and dark, wide and narrow", async () => {
  const file = render(crowd(40), "html");
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 700]) {
      const opened = await open(browser, file, { colorScheme, viewport: { width, height: 900 } });
      await opened.page.evaluate(axe.source);
      const { violations } = await opened.page.evaluate(() => globalThis.axe.run());
      const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).slice(0, 5).join(", ")}`);
      assert.deepEqual(found, [], `${colorScheme} at ${width}`);
      isQuiet(opened);
      await opened.page.close();
    }
  }
});

test("Mermaid draws flowcharts with hostile names as text", async () => {
  const page = await browser.newPage();
  await page.addScriptTag({ path: MERMAID });
  for (const file of [...RECORDINGS.map(recording), crowd(2, "hostile")]) {
    const text = (await import("node:fs")).readFileSync(render(file, "mermaid"), "utf8");
    const svg = await page.evaluate(async (source) => {
      globalThis.mermaid.initialize({ startOnLoad: false, securityLevel: "strict" });
      return (await globalThis.mermaid.render("drawing", source)).svg;
    }, text);
    assert.match(svg, /kubelet|containerd/);
    assert.doesNotMatch(svg, /<img|<script/);
  }
  await page.close();
});
