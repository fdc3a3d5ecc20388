// A buyer with Node's own https module and https-proxy-agent.
import { readFileSync } from "node:fs";
import https from "node:https";
import { createRequire } from "node:module";

const { HttpsProxyAgent } = createRequire(process.env.CLIENTS_NODE + "/")("https-proxy-agent");
const { PROXY_AUTH_URL, PROXY_PEM, CA, URL: url, SIZE } = process.env;
const agent = new HttpsProxyAgent(PROXY_AUTH_URL, { ca: readFileSync(PROXY_PEM) });
const get = (address) =>
  new Promise((done, failed) => {
    const ask = https.get(address, { agent, ca: readFileSync(CA) }, (answer) => {
      let bytes = 0;
      answer.on("data", (part) => (bytes += part.length));
      answer.on("end", () => done({ status: answer.statusCode, bytes }));
    });
    ask.on("error", failed);
  });
const page = await get(url + "/");
const file = await get(`${url}/bytes/${SIZE}`);
const refused = await get("https://owner-blocked.test/").then((a) => a.status, (e) => String(e));
console.log(JSON.stringify({ page: page.status, bytes: file.bytes, refused }));
