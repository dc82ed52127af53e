// The conversation in a page that Chromium shows. Arguments: the socket's URL, Alice's token, Bob's token, the
// browser's path, the page's address, and the same page's address in an origin that may not connect.

import { chromium } from "playwright-core";

const [url, alice, bob, executablePath, address, strange] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath });
try {
  const page = await browser.newPage();
  await page.goto(address);
  await page.evaluate(
    async ([url, tokens]) => {
      const { converse } = await import("/conversation.mjs");
      await converse(WebSocket, url, tokens);
    },
    [url, { alice, bob }],
  );
  await page.goto(strange);
  const opened = await page.evaluate(
    (url) =>
      new Promise((done) => {
        const socket = new WebSocket(url, "heliograph.v1.json");
        socket.onopen = () => done(true);
        socket.onclose = () => done(false);
      }),
    url,
  );
  if (opened) throw new Error(`a page of ${strange} opened a socket`);
} finally {
  await browser.close();
}
