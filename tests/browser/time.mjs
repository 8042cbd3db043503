// Prints how long a page of 5,000 sessions takes to open and to filter, in milliseconds. For `cargo xtask bench all`.

import { crowd, launch, open, render } from "./browser.mjs";

const RUNS = 7;

const browser = await launch();
const file = render(crowd(5_000), "html");
const runs = [];
for (let run = 0; run < RUNS; run += 1) {
  const { page } = await open(browser, file);
  runs.push(await page.evaluate(() => {
    const opened = performance.getEntriesByName("list")[0].startTime;
    const field = document.getElementById("filter");
    let filtered = 0;
    for (const text of ["w", "web-3", "web-3 20003", ""]) {
      const start = performance.now();
      field.value = text;
      field.dispatchEvent(new Event("input"));
      // Layout must be done: it decides the visible result.
      document.getElementById("list").getBoundingClientRect();
      filtered = Math.max(filtered, performance.now() - start);
    }
    return [opened, filtered];
  }));
  await page.close();
}
await browser.close();
for (const [opened, filtered] of runs) console.log(opened, filtered);
