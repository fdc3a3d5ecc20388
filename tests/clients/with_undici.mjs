// A buyer with undici, the client behind Node's fetch.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { ProxyAgent, request } = createRequire(process.env.CLIENTS_NODE + "/")("undici");
const { PROXY, PROXY_USER, PROXY_PASSWORD, PROXY_PEM, CA, URL: url, SIZE } = process.env;
const dispatcher = new ProxyAgent({
  uri: PROXY,
  token: "Basic " + Buffer.from(`${PROXY_USER}:${PROXY_PASSWORD}`).toString("base64"),
  proxyTls: { ca: readFileSync(PROXY_PEM) },
  requestTls: { ca: readFileSync(CA) },
});
const page = await request(url + "/", { dispatcher });
await page.body.text();
const file = await request(`${url}/bytes/${SIZE}`, { dispatcher });
const bytes = (await file.body.arrayBuffer()).byteLength;
let refused = 0;
try {
  await request("https://owner-blocked.test/", { dispatcher });
} catch (e) {
  refused = /403/.test(String(e) + String(e.cause)) ? 403 : String(e);
}
console.log(JSON.stringify({ page: page.statusCode, bytes, refused }));
await dispatcher.close();
