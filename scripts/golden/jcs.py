"""RFC 8785 in Python, written from the RFC; shares nothing with the daemon."""

import json
import struct


def _string(text):
    out = ['"']
    for c in text:
        code = ord(c)
        if 0xD800 <= code <= 0xDFFF:
            raise ValueError("lone surrogate")
        short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}.get(code)
        out.append(short or (f"\\u{code:04x}" if code < 0x20 else c))
    out.append('"')
    return "".join(out)


def number(value):
    """ECMAScript's Number::toString (RFC 8785 section 3.2.2.3)."""
    value = float(value)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("not a JSON number")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    point = len(whole) + int(exponent or 0)
    digits = whole + fraction
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    k, n = len(digits), point
    if k <= n <= 21:
        text = digits + "0" * (n - k)
    elif 0 < n <= 21:
        text = digits[:n] + "." + digits[n:]
    elif -6 < n <= 0:
        text = "0." + "0" * -n + digits
    else:
        e = n - 1
        text = digits[0] + ("." + digits[1:] if k > 1 else "") + "e" + ("+" if e > 0 else "-") + str(abs(e))
    return sign + text


def canonical(value):
    """The RFC 8785 form of a value as Python's json gives it, as text."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(canonical(v) for v in value) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(_string(n) + ":" + canonical(value[n]) for n in names) + "}"


def number_from_bits(bits_hex):
    return number(struct.unpack(">d", bytes.fromhex(bits_hex))[0])


def self_test():
    vectors = [
        ("0000000000000000", "0"), ("8000000000000000", "0"), ("0000000000000001", "5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"), ("4340000000000000", "9007199254740992"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"), ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8d", "0.000001"), ("becbf647612f3696", "-0.0000033333333333333333"),
    ]
    for bits, text in vectors:
        assert number_from_bits(bits) == text, (bits, number_from_bits(bits), text)
    assert canonical(json.loads('{"\\u20ac":1,"\\r":2,"\\ud83d\\ude00":3,"\\ufb33":4}')) == '{"\\r":2,"€":1,"😀":3,"\ufb33":4}'
