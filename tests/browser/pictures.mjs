// Pictures for the documents: `node pictures.mjs FOLDER`.

import { copyFileSync } from "node:fs";
import path from "node:path";
import { isQuiet, launch, open, recording, render } from "./browser.mjs";

const folder = process.argv[2];
const file = recording("terminal.jsonl.zst");
const browser = await launch();
for (const colorScheme of ["light", "dark"]) {
  const opened = await open(browser, render(file, "html"), { colorScheme, viewport: { width: 1280, height: 1130 }, deviceScaleFactor: 1.5 });
  await opened.page.screenshot({ path: path.join(folder, `page-${colorScheme}.png`) });
  isQuiet(opened);
  await opened.page.close();
}
await browser.close();
copyFileSync(render(file, "svg", "web"), path.join(folder, "path.svg"));
