// The conversation through the package `ws`. Arguments: the socket's URL, Alice's token, Bob's token.

import WebSocket from "ws";
import { converse } from "./conversation.mjs";

const [url, alice, bob] = process.argv.slice(2);
await converse(WebSocket, url, { alice, bob });
