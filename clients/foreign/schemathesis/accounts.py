"""Signs in whoever asks, and gives half of the requests something that is there.

One account that lasts; or one for each request where `EACH_ITS_OWN` is set, for what ends a sign-in.
"""

import json
import os
import secrets
import urllib.request
import zlib

import schemathesis

API = os.environ["HELIOGRAPH_API"]
EACH_ITS_OWN = bool(os.environ.get("EACH_ITS_OWN"))
PASSWORD = "correct horse battery"
# What path parameters may lead to.
THERE = {}


def ask(path, body, token=None):
    request = urllib.request.Request(f"{API}{path}", json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    # Through a proxy that the server trusts, each from an address of its own: limits are judged elsewhere.
    request.add_header("x-forwarded-for", f"198.18.{secrets.randbelow(256)}.{secrets.randbelow(256)}")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def register():
    handle = f"s{secrets.token_hex(8)}"
    return ask("/v1/accounts", {"handle": handle, "password": PASSWORD, "device": "schemathesis"})


def furnish(account):
    token, other = account["access_token"], register()["user"]["id"]
    chat = ask("/v1/chats", {"kind": "group", "members": [{"user": other}]}, token)["chat"]
    seq = ask(f"/v1/chats/{chat}/messages", {"text": "good morning"}, token)["seq"]
    invite = ask(f"/v1/chats/{chat}/invites", {}, token)
    # Its own is never put out: that would end its sign-in.
    handle = account["user"]["handle"]
    ask("/v1/sign-ins", {"handle": handle, "password": PASSWORD, "device": "other"})
    THERE.update(chat=chat, seq=seq, user=other, code=invite["code"], invite=invite["id"], device="other")


@schemathesis.auth(refresh_interval=None if EACH_ITS_OWN else 600)
class Bearer:
    def get(self, case, context):
        account = register()
        if not EACH_ITS_OWN and not THERE:
            furnish(account)
        return account["access_token"]

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    def there(name, value):
        return THERE[name] if name in THERE and zlib.crc32(str(value).encode()) % 2 else value

    return {name: there(name, value) for name, value in (path_parameters or {}).items()}
