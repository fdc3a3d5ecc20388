"""The vectors that RFC 8785 publishes."""

import json

import jcs

# Appendix B: the bits of a double, and how it is written; null: not a JSON number.
NUMBERS = [
    ("0000000000000000", "0"), ("8000000000000000", "0"), ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"), ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"), ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"), ("4430000000000000", "295147905179352830000"),
    ("7fffffffffffffff", None), ("7ff0000000000000", None), ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"), ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"), ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"), ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"), ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"), ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"), ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"), ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]

# Sections 3.2.2 and 3.2.3, and whole documents of the same kinds.
DOCUMENTS = [
    ("RFC 8785, 3.2.2",
     '{\n  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],\n'
     '  "string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/",\n  "literals": [null, true, false]\n}',
     '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
     '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'),
    ("RFC 8785, 3.2.3",
     '{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",'
     '"\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control","\\u00f6":"Latin Small Letter O With Diaeresis"}',
     '{"\\r":"Carriage Return","1":"One","\x80":"Control","ö":"Latin Small Letter O With Diaeresis","€":"Euro Sign",'
     '"😀":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}'),
    ("empty containers", ' { "b" : [ ] , "a" : { } } ', '{"a":{},"b":[]}'),
    ("nested members are sorted too", '{"z":{"b":1,"a":[{"d":1,"c":2}]},"a":0}', '{"a":0,"z":{"a":[{"c":2,"d":1}],"b":1}}'),
    ("every control character", '"\\u0000\\u0001\\u0008\\u0009\\u000a\\u000b\\u000c\\u000d\\u001f\\u007f"',
     '"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\x7f"'),
    ("integers at the limit", "[9007199254740991,-9007199254740991,-0,0.0,1e2]", "[9007199254740991,-9007199254740991,0,0,100]"),
]


def rfc8785():
    for bits, text in NUMBERS:
        if text is not None:
            assert jcs.number_from_bits(bits) == text, (bits, text)
    for name, source, expected in DOCUMENTS:
        assert jcs.canonical(json.loads(source)) == expected, (name, jcs.canonical(json.loads(source)))
    return {
        "source": "RFC 8785, appendix B and sections 3.2.2, 3.2.3; documents without a section are of this project",
        "numbers": [{"ieee754": bits, "json": text} for bits, text in NUMBERS],
        "documents": [{"name": n, "input": i, "canonical": c, "canonicalHex": c.encode().hex()} for n, i, c in DOCUMENTS],
    }
