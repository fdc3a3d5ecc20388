"""Attacks by the coordinator, or by somebody who has its line: orders that are forged, replayed, meant for others, or that ask for more
than the owner gives. The lab's coordinator signs them, with whatever the record says instead of what is right."""
import re
import time

from harness.control import wait_for
from trying import Answer

NEEDS = {"lab", "node"}


def _filled(value):
    """`{ago:660}` becomes an instant so many seconds ago."""
    if isinstance(value, dict):
        return {k: _filled(v) for k, v in value.items()}
    if isinstance(value, str) and (found := re.fullmatch(r"\{ago:(-?\d+)\}", value)):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - int(found[1])))
    return value


def attack(attack, world):
    """`open`, `policy`, `close`, `probe`: what is asked of the lab's control API; `again`: a second time."""
    tries = attack.tries
    for kind in ("open", "policy", "close", "probe"):
        if kind in tries:
            return Answer(globals()[f"_{kind}"](world, _filled(tries[kind]), tries))
    raise SystemExit(f"{attack.name} tries nothing that this category knows")


def _answer(world, ask):
    made = world.lab.post("/open", ask)["sessionId"]
    found = wait_for("an answer", lambda: world.lab.session(made)["opens"][-1]["answer"], 10)
    return made, found


def _open(world, ask, tries):
    if ask.pop("swap", False):
        times = ask["overrides"]
        times["notBefore"], times["expiresAt"] = times["notBefore"], times["expiresAt"]
        if times["notBefore"] < times["expiresAt"]:
            times["notBefore"], times["expiresAt"] = times["expiresAt"], times["notBefore"]
    made, answer = _answer(world, ask)
    if tries.get("again"):
        world.lab.post("/close", {"sessionId": made})
        made, answer = _answer(world, {**ask, "sessionId": made})
    if answer != "accepted":
        return f"refused {answer}"
    words = "accepted"
    if "limit" in tries:
        limits = wait_for("the session", lambda: world.node.sessions().get(made), 10)["limits"]
        mine = {name: limits.get(name) for name in tries["limit"]}
        words += ", with the owner's limits" if mine == tries["limit"] else f", with {mine}"
    world.lab.post("/close", {"sessionId": made})
    return words


def _codes(world):
    return {(a["code"], a["since"], a["detail"]) for a in world.node.status()["alerts"]}


def _alert(world, send):
    """The alert that an order raises which nobody answers; `applied` if there is none."""
    # Alerts stand until a good order of the kind: it comes first, so that this one's is seen to be new.
    before = {code for code, _, _ in _codes(world)}
    send()
    try:
        new = wait_for("an alert", lambda: {c for c, _, _ in _codes(world)} - before, 4)
    except AssertionError:
        return "no alert"
    return f"alert {' '.join(sorted(new))}"


def _policy(world, ask, _tries):
    session = world.lab.open()
    world.lab.post("/policy", {"sessionId": session.id})
    time.sleep(1)
    words = _alert(world, lambda: world.lab.post("/policy", {"sessionId": session.id, **ask}))
    world.lab.post("/policy", {"sessionId": session.id})
    world.lab.close(session, wait=False)
    return words


def _close(world, ask, _tries):
    session = world.lab.open()
    words = _alert(world, lambda: world.lab.post("/close", {"sessionId": session.id, **ask}))
    world.lab.close(session, wait=False)
    return words


def _probe(world, ask, tries):
    session = world.session()
    ask = {"sessionId": session.id, "waitMs": 10_000, **ask}
    done = world.lab.post("/probe", ask)
    if tries.get("again"):
        served = world.lab.get("/endpoint")["served"]
        world.lab.post("/probe", {**ask, "waitMs": 3000, "overrides": {"nonce": done["request"]["nonce"]}})
        time.sleep(2)
        # A refusal is a second, different report of that nonce, which the lab holds against the node.
        world.lab.post("/violations")
        return "fetched once" if world.lab.get("/endpoint")["served"] == served else "fetched again"
    if done.get("verdict") == "refused":
        return f"refused {done['refused']}"
    return {"waiting": "no answer"}.get(done.get("verdict"), done.get("verdict"))
