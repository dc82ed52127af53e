"""Two users talk over the JSON sub-protocol, through the package `websockets`.

Written from the protocol alone: nothing of the project's own clients is in it.
Arguments: the socket's URL, Alice's token, Bob's token.
"""

import asyncio
import base64
import json
import secrets
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SUB_PROTOCOL = "heliograph.v1.json"
DEADLINE_S = 20


def draw_chat(partition):
    """A UUIDv7 whose `rand_a` is the chat's partition."""
    head = (time.time_ns() // 1_000_000) << 16 | 0x7000 | partition
    tail = secrets.randbits(62) | 1 << 63
    return base64.b64encode(head.to_bytes(8) + tail.to_bytes(8)).decode()


class Socket:
    def __init__(self, socket, hello):
        self.socket = socket
        self.hello = hello
        self.welcome = None
        self.frames = []
        self.last_id = 0

    @classmethod
    async def greeted(cls, url):
        socket = await connect(url, subprotocols=[SUB_PROTOCOL], proxy=None)
        assert socket.subprotocol == SUB_PROTOCOL, socket.subprotocol
        greeted = cls(socket, None)
        greeted.hello = await greeted.next("hello")
        return greeted

    @classmethod
    async def signed_in(cls, url, token):
        """Ready in all partitions, so that nothing stored from now on is not pushed."""
        socket = await cls.greeted(url)
        asked = await socket.ask(authenticate={"token": token, "device": "foreign"})
        socket.welcome = await socket.next("welcome", lambda _, frame: frame["id"] == asked)
        for partition in range(socket.welcome["partitions"]):
            # A field that is 0 is left out.
            await socket.next("ready", lambda ready, _: ready.get("partition", 0) == partition)
        return socket

    async def ask(self, **frame):
        self.last_id += 1
        await self.socket.send(json.dumps({"id": str(self.last_id), **frame}))
        return str(self.last_id)

    async def next(self, kind, fits=lambda value, frame: True):
        """The first frame of this kind that fits, whatever came before it."""
        while True:
            for at, frame in enumerate(self.frames):
                if kind in frame and fits(frame[kind], frame):
                    return self.frames.pop(at)[kind]
            async with asyncio.timeout(DEADLINE_S):
                message = await self.socket.recv()
            assert isinstance(message, str), message
            self.frames.append(json.loads(message))

    async def stored(self, **command):
        """Sends a command and waits until it is accepted, then stored."""
        asked = await self.ask(command=command)
        await self.next("accepted", lambda _, frame: frame["id"] == asked)
        return (await self.next("outcome", lambda _, frame: frame["id"] == asked))["stored"]

    async def closed(self):
        try:
            await self.next("nothing")
        except ConnectionClosed as closed:
            return closed.rcvd.code


async def converse(url, alices_token, bobs_token):
    alice = await Socket.signed_in(url, alices_token)
    bob = await Socket.signed_in(url, bobs_token)
    chat = draw_chat(alice.welcome["partitions"] - 1)
    members = [{"user": bob.welcome["user"], "role": "ROLE_MEMBER"}]
    created = await alice.stored(chat=chat, createChat={"kind": "CHAT_KIND_GROUP", "members": members})
    assert created["seq"] == "1", created

    origin = str(secrets.randbits(64) | 1)
    body = base64.b64encode("héllo 👋".encode()).decode()
    message = {"chat": chat, "origin": origin, "n": "1", "basis": created["seq"], "sendMessage": {"body": body}}
    sent = await alice.stored(**message)
    assert sent["seq"] == "2", sent
    pushed = await bob.next("pushed", lambda it, _: it["entry"]["chat"] == chat and "messageSent" in it["entry"])
    entry = pushed["entry"]
    assert entry["messageSent"]["body"] == body, entry
    assert (entry["seq"], entry["sender"], entry["origin"]) == ("2", alice.welcome["user"], origin), entry

    await bob.ask(received={"chat": chat, "through": entry["seq"]})
    await bob.ask(seen={"chat": chat, "through": entry["seq"]})
    for socket in (alice, bob):
        mark = await socket.next(
            "watermark",
            lambda it, _: (it["chat"], it["user"], it.get("seen")) == (chat, bob.welcome["user"], entry["seq"]),
        )
        assert mark["delivered"] == entry["seq"], mark
    asked = await bob.ask(readHistory={"chat": chat, "atLeast": entry["seq"]})
    history = await bob.next("history", lambda _, frame: frame["id"] == asked)
    assert [row["seq"] for row in history["entries"]] == ["1", "2"], history
    await bob.socket.close()
    assert bob.socket.close_code == 1000, bob.socket.close_code

    await alice.socket.send("x" * (alice.hello["limits"]["frameBytes"] + 1))
    assert (code := await alice.closed()) == 1009, code

    stranger = await Socket.greeted(url)
    await stranger.ask(authenticate={"token": "nonsense", "device": "foreign"})
    error = await stranger.next("error")
    assert error["code"] == "ERROR_CODE_UNAUTHENTICATED", error
    assert (code := await stranger.closed()) == 4501, code


asyncio.run(converse(*sys.argv[1:]))
