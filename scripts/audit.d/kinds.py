"""What each category makes of a record's `try`. A further category is one more function here or in a module of its own that is named
in CATEGORIES: it takes the attack and the world, and gives an Answer."""
import importlib
import itertools
import time

from hellos import hello
from text import Texts
from trying import Answer, after_the_200, request, write

_serial = itertools.count()
# Category (the name of its file in tests/corpus) to `module:function`.
CATEGORIES = {
    "addresses": "kinds:addresses",
    "hosts": "kinds:hosts",
    "connect": "kinds:connect",
    "hello": "kinds:client_hello",
    "limits": "kinds:limits",
    "slow": "slow:attack",
    "coordinator": "coordinator:attack",
    "local_api": "local_api:attack",
    "answers": "answers:attack",
}


def run(attack, world):
    module, function = CATEGORIES[attack.category].split(":")
    return getattr(importlib.import_module(module), function)(attack, world)


def needs(attack):
    """What the attack cannot do without, beyond what it says itself."""
    found = set(attack.needs)
    text = repr(attack.tries)
    if attack.category in ("addresses", "hosts", "hello") or "{auth}" in text or "{basic" in text or "{session}" in text:
        found.add("session")
    if attack.category == "addresses" and "name" in attack.tries or "zone" in attack.tries or attack.category == "limits":
        found.add("lab")
    if attack.tries.get("profile") or attack.tries.get("open"):
        found.add("lab")
    module = CATEGORIES[attack.category].split(":")[0]
    return found | set(getattr(importlib.import_module(module), "NEEDS", ()))


def _connect(world, session, authority, pieces=0, tunnel=None, wait=None):
    texts = Texts(session, world.host)
    head = texts.bytes(f"CONNECT {authority} HTTP/1.1\r\nHost: x\r\n{{auth}}\r\n")
    stream = world.dial()
    try:
        return request(stream, head, pieces, tunnel, wait)
    finally:
        stream.close()


def addresses(attack, world):
    """`authority`: a literal; or `name`: what a name resolves to: addresses, `@alias`; with `then` what it says later."""
    tries = attack.tries
    session = world.session(tries.get("profile"))
    if "authority" in tries:
        return _connect(world, session, tries["authority"])
    number = next(_serial)
    name = f"a{number}.audit.test"
    at = name
    for alias in [x[1:] for x in tries["name"] if x.startswith("@")]:
        alias = alias.replace("*", str(number))
        world.lab.post("/zone", {"name": at, "cname": alias, "ttl": 1})
        at = alias
    found = [world.place(x) for x in tries["name"] if not x.startswith("@")]
    if found:
        entry = {"name": at, "addresses": found, "ttl": tries.get("ttl", 60)}
        entry |= {"fail": tries["fail"], "times": 1} if "fail" in tries else {}
        if "then" in tries:
            entry |= {"then": [world.place(x) for x in tries["then"]], "after": 1}
        world.lab.post("/zone", entry)
    return _connect(world, session, f"{name}:443")


def hosts(attack, world):
    """`authority` as it stands in the request line; `sni` is then offered and the tunnel looked at; `zone`: name = address | @alias."""
    tries = attack.tries
    for name, value in tries.get("zone", {}).items():
        entry = {"cname": value[1:]} if value.startswith("@") else {"addresses": [world.place(value)]}
        world.lab.post("/zone", {"name": name, "ttl": 1, **entry})
    session = world.session(tries.get("profile"))
    tunnel = None
    if "sni" in tries:
        tunnel = hello({"sni": Texts(session, world.host).text(tries["sni"])})
    return _connect(world, session, tries["authority"], tunnel=tunnel, wait=tries.get("wait", 1))


def connect(attack, world):
    """`send`: the bytes of the request; `tunnel`: what follows a 200; `pieces`: bytes of a write."""
    tries = attack.tries
    session = world.session(tries.get("profile"), tries.get("open")) if "session" in needs(attack) else None
    texts = Texts(session, world.host)
    tunnel = texts.bytes(tries["tunnel"]) if "tunnel" in tries else None
    stream = world.dial()
    try:
        return request(stream, texts.bytes(tries["send"]), tries.get("pieces", 0), tunnel, tries.get("wait", 1))
    finally:
        stream.close()


def limits(attack, world):
    """`repeat` times the hello of `recipe`, in a session of its own, then a CONNECT as it should be: how is that answered? Slowly,
    and after a pause, so that no limit of new connections a second answers for the rule."""
    session = world.session({}, {}, fresh=True)
    for _ in range(attack.tries["repeat"]):
        client_hello(attack, world, session)
        time.sleep(0.03)
    time.sleep(1.2)
    return _connect(world, session, f"{world.host}:443")


def client_hello(attack, world, session=None):
    """`recipe` of a hello (hellos.py) or `send` as text, after CONNECT and 200; `host`, `profile`, `pieces`, `pause_ms`, `wait`."""
    tries = attack.tries
    session = session or world.session(tries.get("profile"))
    host = tries.get("host", world.host)
    texts = Texts(session, host)
    if "send" in tries:
        data = texts.bytes(tries["send"])
    else:
        data = hello({"sni": host} | {k: texts.text(v) if isinstance(v, str) and k == "sni" else v for k, v in tries["recipe"].items()})
    head = texts.bytes(f"CONNECT {host}:443 HTTP/1.1\r\nHost: x\r\n{{auth}}\r\n")
    stream = world.dial()
    try:
        together = tries.get("together", False)
        answer = request(stream, head + (data if together else b""), tunnel=b"" if together else None, wait=tries.get("wait", 1))
        if answer.words.split(",")[0] != "200":
            return answer
        if together:
            return Answer(answer.words.partition(", ")[2])
        write(stream, data, tries.get("pieces", 0), tries.get("pause_ms", 0))
        return Answer(after_the_200(stream, wait=tries.get("wait", 1)))
    finally:
        stream.close()
