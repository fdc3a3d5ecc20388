// Opens a page through the node and tells what was seen; environment: PROXY*, SPKI, URL, BLOCKED, PICTURE, BROWSER_NODE.
import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { chromium } = createRequire(process.env.BROWSER_NODE + "/")("playwright-core");
const profile = mkdtempSync(join(tmpdir(), "echomesh-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  headless: true,
  proxy: { server: process.env.PROXY, username: process.env.PROXY_USER, password: process.env.PROXY_PASSWORD },
  args: ["--no-sandbox", "--disable-gpu", `--ignore-certificate-errors-spki-list=${process.env.SPKI}`],
});
try {
  const page = context.pages()[0] ?? (await context.newPage());
  const answer = await page.goto(process.env.URL, { timeout: 60000 });
  const heading = await page.textContent("h1", { timeout: 5000 });
  if (process.env.PICTURE) await page.screenshot({ path: process.env.PICTURE });
  const blocked = await page.goto(process.env.BLOCKED, { timeout: 60000 }).then((a) => `status ${a.status()}`, (e) => String(e));
  console.log(JSON.stringify({ status: answer.status(), heading, blocked }));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
