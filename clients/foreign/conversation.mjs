// Two users talk over the JSON sub-protocol, through any WebSocket that has the browser's interface.
//
// Written from the protocol alone: nothing of the project's own clients is in it.

const SUB_PROTOCOL = "heliograph.v1.json";
const DEADLINE_MS = 20_000;

const random = (bytes) => crypto.getRandomValues(new Uint8Array(bytes));
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
const utf8 = (text) => base64(new TextEncoder().encode(text));

/** A UUIDv7 whose `rand_a` is the chat's partition. */
function drawChat(partition) {
  const bytes = random(16);
  const head = (BigInt(Date.now()) << 16n) | 0x7000n | BigInt(partition);
  new DataView(bytes.buffer).setBigUint64(0, head);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return base64(bytes);
}

function equal(actual, expected, what) {
  if (actual !== expected) throw new Error(`${what}: ${actual}, not ${expected}`);
}

class Socket {
  #frames = [];
  #arrived = () => {};
  #lastId = 0;

  constructor(WebSocket, url) {
    this.socket = new WebSocket(url, SUB_PROTOCOL);
    const take = (frame) => {
      this.#frames.push(frame);
      this.#arrived();
    };
    this.socket.onmessage = ({ data }) => take(JSON.parse(data));
    this.socket.onclose = ({ code }) => take({ closed: code });
  }

  /** Connected, greeted and signed in; ready in all partitions, so that nothing stored from now on is not pushed. */
  static async signedIn(WebSocket, url, token) {
    const socket = new Socket(WebSocket, url);
    socket.hello = await socket.next("hello");
    equal(socket.socket.protocol, SUB_PROTOCOL, "sub-protocol");
    const id = socket.ask({ authenticate: { token, device: "foreign" } });
    socket.welcome = await socket.next("welcome", (_, frame) => frame.id === id);
    for (let partition = 0; partition < socket.welcome.partitions; partition += 1) {
      // A field that is 0 is left out.
      await socket.next("ready", (ready) => (ready.partition ?? 0) === partition);
    }
    return socket;
  }

  ask(frame) {
    this.#lastId += 1;
    const id = String(this.#lastId);
    this.socket.send(JSON.stringify({ id, ...frame }));
    return id;
  }

  /** The first frame of this kind that fits, whatever came before it. */
  async next(kind, fits = () => true) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => {
        const got = JSON.stringify(this.#frames);
        reject(new Error(`no ${kind} within ${DEADLINE_MS} ms, but ${got}`));
      }, DEADLINE_MS);
    });
    try {
      for (;;) {
        const at = this.#frames.findIndex((frame) => kind in frame && fits(frame[kind], frame));
        if (at >= 0) return this.#frames.splice(at, 1)[0][kind];
        if (this.#frames.some((frame) => "closed" in frame)) {
          throw new Error(`closed while waiting for ${kind}: ${JSON.stringify(this.#frames)}`);
        }
        await Promise.race([late, new Promise((arrived) => (this.#arrived = arrived))]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends a command and waits until it is accepted, then stored. */
  async stored(command) {
    const id = this.ask({ command });
    await this.next("accepted", (_, frame) => frame.id === id);
    const outcome = await this.next("outcome", (_, frame) => frame.id === id);
    if (!outcome.stored) throw new Error(`rejected: ${JSON.stringify(outcome)}`);
    return outcome.stored;
  }

  async close() {
    this.socket.close(1000);
    equal(await this.next("closed"), 1000, "code of a close that the client begins");
  }
}

/** All that a client does in its life, and both ways in which it is turned away. */
export async function converse(WebSocket, url, tokens) {
  const alice = await Socket.signedIn(WebSocket, url, tokens.alice);
  const bob = await Socket.signedIn(WebSocket, url, tokens.bob);
  const chat = drawChat(alice.welcome.partitions - 1);
  const members = [{ user: bob.welcome.user, role: "ROLE_MEMBER" }];
  const created = await alice.stored({ chat, createChat: { kind: "CHAT_KIND_GROUP", members } });
  equal(created.seq, "1", "seq of the creation");

  const origin = new DataView(random(8).buffer).getBigUint64(0).toString();
  const body = utf8("héllo \u{1f44b}");
  const sent = await alice.stored({ chat, origin, n: "1", basis: created.seq, sendMessage: { body } });
  equal(sent.seq, "2", "seq of the message");
  const { entry } = await bob.next("pushed", (pushed) => pushed.entry.chat === chat && pushed.entry.messageSent);
  equal(entry.messageSent.body, body, "pushed body");
  equal(`${entry.seq} ${entry.sender} ${entry.origin}`, `2 ${alice.welcome.user} ${origin}`, "pushed entry");

  bob.ask({ received: { chat, through: entry.seq } });
  bob.ask({ seen: { chat, through: entry.seq } });
  const isBobs = (mark) => mark.chat === chat && mark.user === bob.welcome.user && mark.seen === entry.seq;
  equal((await alice.next("watermark", isBobs)).delivered, entry.seq, "delivered in the tick");
  equal((await bob.next("watermark", isBobs)).delivered, entry.seq, "delivered in the echo");
  const asked = bob.ask({ readHistory: { chat, atLeast: entry.seq } });
  const history = await bob.next("history", (_, frame) => frame.id === asked);
  equal(history.entries.map((row) => row.seq).join(), "1,2", "history");
  await bob.close();

  alice.socket.send("x".repeat(alice.hello.limits.frameBytes + 1));
  equal(await alice.next("closed"), 1009, "code of a message that is too big");

  const stranger = new Socket(WebSocket, url);
  await stranger.next("hello");
  stranger.ask({ authenticate: { token: "nonsense", device: "foreign" } });
  equal((await stranger.next("error")).code, "ERROR_CODE_UNAUTHENTICATED", "error of a bad token");
  equal(await stranger.next("closed"), 4501, "code of a bad token");
}
