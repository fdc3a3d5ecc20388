"""Attacks by the coordinator, or by somebody in its place, with the bytes of an answer: wrong frames, wrong sizes, wrong certificates,
lists that are not what was signed."""
import contextlib
import socket
import time

from harness.control import wait_for
from impostor import NAME, Impostor, ok
from text import Texts
from trying import Answer

NEEDS = {"lab", "node"}
POLL, REGISTER, BEAT = "/sessions/control", "/nodes/register", "/nodes/heartbeat"
# What an endless answer sends, and how far from a deadline a busy machine may be.
MUCH, BUSY = 8 << 20, 4.0


class Bodies(Texts):
    """`{good}`: an answer as it should be, which moves the cursor; `{cursor}`: where to."""

    def __init__(self, cursor):
        super().__init__(None, NAME)
        self.cursor = cursor

    def p_cursor(self):
        return self.cursor

    def p_good(self):
        return f'{{"signals":[],"cursor":"{self.cursor}"}}'

    def p_nested(self, levels):
        return "[" * int(levels) + "]" * int(levels)

    def p_signals(self, count):
        return ",".join(['{"cursor":"s","type":"nothing","body":{}}'] * int(count))

    def p_spaces(self, count):
        return " " * int(count)


def attack(attack, world):
    """What is sent instead of an answer to `to` (the control poll; `registration`; `heartbeat`), or with which certificate, or `lists`."""
    if not getattr(world, "impostor", None):
        world.impostor = Impostor(world)
        world.turns = 0
    world.turns += 1
    tries, it = attack.tries, world.impostor
    if "certificate" in tries:
        return Answer(_certificate(it, tries["certificate"]))
    if "lists" in tries:
        return Answer(_lists(it, world, tries))
    if "seconds" in tries:
        return Answer(_slow(it, tries))
    return Answer({"registration": _registration, "poll": _poll}[tries.get("to", "poll")](it, world.turns, tries))


def _bytes(texts, tries):
    """`status`, `fields`, `body`, or `send` for the whole."""
    if "send" in tries:
        return texts.bytes(tries["send"])
    body = texts.bytes(tries.get("body", "{good}"))
    length = len(body) + tries.get("longer", 0)
    fields = tries.get("fields", "Content-Length: {length}\r\n").replace("{length}", str(length))
    return f"HTTP/1.1 {tries.get('status', '200 OK')}\r\n".encode() + texts.bytes(fields) + b"\r\n" + body


def _refused(it, known):
    new = set(it.alerts()) - known
    return " ".join(["refused", *sorted(new)])


def _fresh(it, turn):
    """A poll that waits, after a good answer: no alert of an earlier attack stands any more."""
    waiting = it.next(POLL)
    waiting.answer(ok({"signals": [], "cursor": f"before-{turn}"}))
    waiting = it.next(POLL, waiting)
    assert waiting.cursor == f"before-{turn}", waiting.cursor
    return waiting


def _poll(it, turn, tries):
    """An answer that would move the cursor: the next poll says whether it did."""
    waiting = _fresh(it, turn)
    known = set(it.alerts())
    data = _bytes(Bodies(f"after-{turn}"), tries)
    if tries.get("endless"):
        _pour(waiting, data)
    waiting.answer(b"" if tries.get("endless") else data, tries.get("end"))
    following = it.next(POLL, waiting, 60)
    return "taken" if following.cursor != waiting.cursor else _refused(it, known)


def _pour(waiting, head):
    """Chunks of white space behind a good body, until the node has enough."""
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    with contextlib.suppress(OSError):
        waiting.stream.settimeout(10)
        waiting.stream.sendall(head)
        for _ in range(MUCH // 0x4000):
            waiting.stream.sendall(chunk)
        waiting.stream.sendall(b"0\r\n\r\n")


def _registration(it, _turn, tries):
    """An answer that the node registers by: heartbeats follow."""
    known = set(it.alerts())
    asked = it.register(hold=True)
    answer = it.registration() | {"lists": [_any_list(n) for n in range(tries["any-lists"])]}
    asked.answer(ok(answer))
    following = it.next((REGISTER, BEAT), asked)
    words = "taken" if following.path == BEAT else _refused(it, known)
    it.hold_registration = False
    if not following.done.is_set():
        following.answer(ok(it.registration()))
    else:
        it.register()
    it.next(BEAT, following)
    wait_for("no alert", lambda: not set(it.alerts()) - known, 20)
    return words


def _any_list(number):
    return {"name": f"n{number}", "version": 1, "url": f"https://{NAME}/list", "hash": "b3:" + "0" * 64, "coordinatorSig": ""}


def _slow(it, tries):
    """Bytes one by one, for longer than a whole answer may take."""
    waiting = _fresh(it, 0) if tries["to"] == "poll" else it.register(hold=True)
    began, seconds = time.monotonic(), tries["seconds"]
    words = "held"
    with contextlib.suppress(socket.timeout):
        try:
            waiting.stream.sendall(Bodies("x").bytes(tries["send"]))
            while time.monotonic() - began < seconds + BUSY:
                waiting.stream.sendall(b"x")
                time.sleep(0.5)
        except OSError:
            took = time.monotonic() - began
            words = "closed in time" if abs(took - seconds) <= BUSY else f"closed after {took:.0f} s"
    it.hold_registration = False
    it.hang_up()
    it.next(BEAT, it.mark(), 60)
    return words


def _certificate(it, which):
    """The node's connections are cut, and whoever answers has another certificate."""
    _fresh(it, 0)
    good, it.context = it.context, it.certified("other.test") if which == "other-name" else it.certified(NAME, own=True)
    before, known = it.mark(), set(it.alerts())
    it.hang_up()
    end, words = time.monotonic() + 10, "nothing"
    while words == "nothing" and time.monotonic() < end:
        words = "taken" if it.mark() is not before else words
        words = _refused(it, known) if set(it.alerts()) - known else words
        time.sleep(0.05)
    it.context = good
    it.hang_up()
    it.next(BEAT, it.mark(), 60)
    return words


def _lists(it, world, tries):
    """The registration names these lists, signed by the lab's key; `before`: what it named before. An alert, or they are in force."""
    it.list_answer = lambda body: ok(body, tries.get("status", "200 OK"), tries.get("fields", ""))
    it.content = b"nobody.test\n" + b"\n" * tries.get("pad", 0)
    try:
        for named in [tries[name] for name in ("before", "lists") if name in tries]:
            # A name of its own: the node remembers versions.
            words = _named(it, world.lab, [{**one, "name": f"{one['name']}-{world.turns}"} for one in named])
    finally:
        it.list_answer = ok
        _named(it, world.lab, [])
        wait_for("no alert of lists", lambda: not _of_lists(it), 30)
    return words


def _named(it, lab, named):
    ask = [{"version": 1, "content": "nobody.test\n", "url": f"https://{NAME}/list", **one} for one in named]
    it.lists = lab.post("/lists", {"lists": ask})["lists"]
    lab.post("/lists", {"lists": []})
    fetched = it.fetched
    it.next(BEAT, it.register())
    # A list of 16 MiB takes its time.
    end = time.monotonic() + ((15 if len(it.content) > MUCH else 4) if named else 0)
    while not _of_lists(it) and time.monotonic() < end:
        time.sleep(0.05)
    found = _of_lists(it)
    return f"alert {' '.join(found)}" if found else f"in force, {it.fetched - fetched} fetched"


def _of_lists(it):
    return sorted(code for code in it.alerts() if code.startswith("list-"))
