// The page of `execpath render -o html` in use.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { crowd, isQuiet, launch, open, recording, render } from "./browser.mjs";

let browser;
let pages;

before(async () => {
  browser = await launch();
  pages = {
    terminal: render(recording("terminal.jsonl.zst"), "html"),
    killed: render(recording("kubectl-killed.jsonl.zst"), "html"),
    few: render(crowd(9), "html"),
  };
});
after(() => browser.close());

/** Opens a page, acts on it, and checks that it stayed quiet. */
async function on(file, act, options) {
  const opened = await open(browser, file, options);
  await act(opened.page);
  isQuiet(opened);
  await opened.page.close();
}

const rows = (page) => page.locator("#list [role=option]");
const countInState = (page, how) => page.locator(`#picture [data-stands=${how}]`).count();
const reads = (page) => page.locator(".reads").textContent();

test("page lists sessions and shows the first one", () => on(pages.few, async (page) => {
  assert.equal(await rows(page).count(), 9);
  assert.equal(await page.locator("#count").textContent(), "9 sessions");
  assert.equal(await page.locator("#head h2").textContent(), "exec default/web-0/web");
  assert.equal(await page.locator("#picture .hop").count(), 7);
  assert.equal(await page.locator("#steps > .step.hop").count(), 7);
  assert.equal(await countInState(page, "later"), 0);
}));

test("a click shows another session, and its link opens it again", () => on(pages.few, async (page) => {
  await rows(page).nth(4).click();
  assert.equal(await page.locator("#head h2").textContent(), "exec default/web-4/web");
  const id = await page.locator("#head dd").first().textContent();
  assert.ok(page.url().endsWith(`#${id}`));
  await on(pages.few, async (again) => {
    assert.equal(await again.locator("#head h2").textContent(), "exec default/web-4/web");
  }, { hash: `#${id}` });
}));

test("filter accepts words in any order, and the list can be sorted", () => on(pages.few, async (page) => {
  await page.fill("#filter", "web-1 20001");
  assert.equal(await page.locator("#count").textContent(), "1 of 9 sessions");
  await page.fill("#filter", "nobody has this");
  assert.equal(await rows(page).count(), 0);
  await page.fill("#filter", "");
  await page.selectOption("#sort", "bad");
  assert.match(await rows(page).first().textContent(), /code [12]/);
  await page.selectOption("#sort", "new");
  assert.match(await rows(page).first().textContent(), /web-1/);
}));

test("keyboard finds a session, moves in time and plays", () => on(pages.few, async (page) => {
  const { keyboard } = page;
  await keyboard.press("/");
  await keyboard.type("web-3");
  await keyboard.press("ArrowDown");
  assert.equal(await page.locator("#head h2").textContent(), "exec default/web-3/web");
  await keyboard.press("/");
  await keyboard.press("Control+A");
  await keyboard.press("Delete");
  await keyboard.press("Tab");
  await keyboard.press("Tab");
  await keyboard.press("End");
  assert.equal(await page.locator("#list [aria-selected=true]").getAttribute("aria-posinset"), "9");
  await keyboard.press("Home");
  assert.equal(await page.locator("#list [aria-selected=true]").getAttribute("aria-posinset"), "1");
  for (let presses = 0; presses < 20 && (await page.evaluate(() => document.activeElement.id)) !== "moment"; presses += 1) await keyboard.press("Tab");
  await keyboard.press("Home");
  assert.equal(await reads(page), "+0 µs");
  assert.ok((await countInState(page, "later")) > 0);
  await keyboard.press("End");
  assert.equal(await countInState(page, "later"), 0);
  await keyboard.press("Tab");
  await keyboard.press("Enter");
  assert.equal(await reads(page), "+0 µs");
  await keyboard.press("Tab");
  await keyboard.press("Tab");
  await keyboard.press("Tab");
  await keyboard.press("Enter");
  assert.notEqual(await reads(page), "+0 µs");
}));

test("events add hops one by one, in order of time", () => on(pages.terminal, async (page) => {
  await page.click("button[aria-label='To the start']");
  const seen = [await page.locator("#picture g[data-stands=here] > .hop").count()];
  const end = await page.evaluate(() => document.querySelector("#moment").max);
  while ((await page.inputValue("#moment")) !== end) {
    await page.click("button[aria-label='One event on']");
    seen.push(await page.locator("#picture g[data-stands=here] > .hop").count());
  }
  assert.deepEqual(seen, seen.toSorted?.((one, other) => one - other) ?? [...seen].sort((one, other) => one - other));
  assert.ok(new Set(seen).size >= 4, `grows in steps: ${seen}`);
  assert.equal(seen.at(-1), 7);
  await page.selectOption("#clock", "known");
  await page.click("button[aria-label='To the start']");
  assert.equal(await page.locator("#picture g[data-stands=here] > .hop").count(), 4, "four hops became known at once");
}));

test("player pauses, and plays to the end at any speed", () => on(pages.terminal, async (page) => {
  const pace = async (name, times) => {
    for (let click = 0; click < times; click += 1) await page.getByRole("button", { name }).click();
  };
  assert.equal(await page.locator("#speed").textContent(), "32 × slower");
  await pace("slower", 5);
  assert.equal(await page.locator("#speed").textContent(), "1,024 × slower");
  await page.uncheck("#shorten");
  await page.click("button[aria-label=Play]");
  await page.waitForFunction(() => document.querySelector(".reads").textContent !== "+0 µs");
  await page.click("button[aria-label=Pause]");
  const paused = await reads(page);
  assert.notEqual(paused, "+243.5 ms");
  await pace("faster", 10);
  assert.equal(await page.locator("#speed").textContent(), "as it was");
  await pace("faster", 7);
  assert.equal(await page.locator("#speed").textContent(), "128 × faster");
  await page.click("button[aria-label=Play]");
  await page.waitForFunction(() => document.querySelector("#moment").value === document.querySelector("#moment").max);
  await page.waitForSelector("button[aria-label=Play]");
}));

test("samples are shown at their time, missing ones as not measured", () => on(pages.few, async (page) => {
  const leg = page.locator("#link-0 .numbers");
  assert.match(await leg.textContent(), /4,096 B/);
  assert.match(await leg.textContent(), /1,539 B/);
  assert.match(await leg.locator("td.none").first().textContent(), /not measured/);
  await page.click("button[aria-label='To the start']");
  assert.match(await leg.textContent(), /Queues: not measured/);
  await rows(page).nth(1).click();
  assert.match(await leg.textContent(), /Queues: not measured/);
  for (const text of await page.locator(".numbers").allTextContents()) assert.doesNotMatch(text, /(^|\D)0 B/);
}));

test("a gap is shown with its text", () => on(pages.killed, async (page) => {
  const gaps = page.locator("#steps .step.gap[data-stands=here]");
  const texts = await gaps.locator("h4").allTextContents();
  assert.ok(texts.length > 0);
  for (const text of texts) assert.match(text, /^Not known: .+/);
}));

test("links show their evidence, hops a command with their own numbers", () => on(pages.terminal, async (page) => {
  for (const text of await page.locator("#steps .step.leg").allTextContents()) assert.match(text, /How it is known: /);
  const commands = await page.locator("#steps .manual code").allTextContents();
  assert.ok(commands.some((command) => command.includes("19574")), "kubectl's pid");
  assert.ok(commands.some((command) => /ss .*40304/.test(command)), "its port");
}));

test("rows show the command of their session", () => on(pages.few, async (page) => {
  for (const text of await page.locator(".row .row-command").allTextContents()) assert.match(text, /^\$ sh\b/);
}));

test("the start is shown in its parts, which fill the whole width", () => on(pages.terminal, async (page) => {
  const parts = page.locator("#parts > li");
  const rungs = await parts.locator(".rung").allTextContents();
  assert.deepEqual(rungs.slice(0, 3), ["connected", "apiserver-accepted", "kubelet-dialled"]);
  assert.match(await page.locator("#start-sum").textContent(), /^\S+ ms from client-started to running\. /);
  const bars = await parts.locator("rect").evaluateAll((bars) => bars.map((bar) => [Number(bar.getAttribute("x")), Number(bar.getAttribute("width"))]));
  assert.equal(bars[0][0], 0);
  bars.slice(1).forEach(([x], index) => assert.ok(x >= bars[index][0], `${bars}`));
  // Bars of short parts are wider than their time, so that they can be seen.
  bars.forEach(([x, width]) => assert.ok(width >= 4 && x + width <= 1000.001, `${bars}`));
  assert.match(await parts.first().locator(".note").textContent(), /^not seen: name-resolved$/);
  assert.equal(await page.locator("#parts .unseen").count(), await parts.filter({ hasText: "not seen" }).count());
}));

test("words between backticks are code", () => on(pages.terminal, async (page) => {
  assert.ok((await page.locator("#steps p code").count()) > 0);
  assert.doesNotMatch(await page.locator("#steps").textContent(), /`/);
}));

test("colour scheme follows the system and the switch", async () => {
  const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const [light, dark] = ["rgb(255, 255, 255)", "rgb(16, 22, 28)"];
  await on(pages.few, async (page) => {
    assert.equal(await ground(page), light);
    await page.selectOption("#scheme", "dark");
    assert.equal(await ground(page), dark);
  }, { colorScheme: "light" });
  await on(pages.few, async (page) => {
    assert.equal(await ground(page), dark);
    await page.selectOption("#scheme", "light");
    assert.equal(await ground(page), light);
  }, { colorScheme: "dark" });
});

test("printing shows the session without controls", () => on(pages.terminal, async (page) => {
  const pdf = await page.pdf({ format: "A4" });
  assert.equal(pdf.subarray(0, 5).toString(), "%PDF-");
  await page.emulateMedia({ media: "print" });
  for (const hidden of [".sessions", "#timeline"]) assert.equal(await page.locator(hidden).isVisible(), false);
  for (const shown of ["#head", "#picture svg", "#steps"]) assert.equal(await page.locator(shown).isVisible(), true);
}));

test("a page without sessions reports this", () => on(render(crowd(0), "html"), async (page) => {
  assert.match(await page.locator("#main").textContent(), /no session/);
}));
