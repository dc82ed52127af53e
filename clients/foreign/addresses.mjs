// Whether two clients behind a proxy are two addresses to the gateway, or one.
//
// Arguments: the socket's URL, two tokens that it has no use for, and how the second client's upgrade must be answered
// once the first one has left as many sockets unauthenticated as one address may.

import WebSocket from "ws";

const [url, , , expected] = process.argv.slice(2);
/** `limits.address_unauthenticated_max`. */
const BOUND = 128;
const [FIRST, SECOND] = ["127.0.0.2", "127.0.0.3"];

/** The status of an upgrade from this address, whose client claims to be somebody else each time. */
function upgrade(localAddress, number) {
  const headers = { "X-Forwarded-For": `203.0.113.${number}` };
  const socket = new WebSocket(url, "heliograph.v1.json", { localAddress, headers });
  return new Promise((resolve, reject) => {
    socket.on("open", () => resolve(101));
    socket.on("unexpected-response", (_, response) => {
      response.resume();
      resolve(response.statusCode);
    });
    socket.on("error", reject);
  });
}

function equal(actual, expected, what) {
  if (String(actual) !== String(expected)) throw new Error(`${what}: ${actual}, not ${expected}`);
}

// At once: a socket that does not sign in is closed after ten seconds, and its place is free again.
const first = await Promise.all(Array.from({ length: BOUND }, (_, number) => upgrade(FIRST, number)));
first.forEach((status) => equal(status, 101, "a socket within the bound"));
equal(await upgrade(FIRST, 200), 429, "one over the bound, whatever the client claims");
equal(await upgrade(SECOND, 201), expected, "another client");
// The sockets end with the process.
process.exit(0);
