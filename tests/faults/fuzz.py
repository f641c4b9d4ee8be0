"""Sound files, changed at random: bits flipped, bytes cut out, doubled, overwritten, the end cut off."""

import random

MOST_CHANGES = 4
INTERESTING = (b"\x00", b"\xff", b'"', b"{", b"}", b"[", b"]", b",", b"\n", b"\r", b"\\u0000", b"1e999", b"-1", b"null",
               b"99999999999999999999", b"\xed\xa0\x80")  # fmt: skip


def changed(content: bytes, draw: random.Random) -> bytes:
    """`content` with one to MOST_CHANGES changes."""
    data = bytearray(content)
    for _ in range(draw.randint(1, MOST_CHANGES)):
        if not data:
            return bytes(draw.randrange(256) for _ in range(draw.randrange(64)))
        place, length = draw.randrange(len(data)), draw.randrange(1, 64)
        match draw.randrange(6):
            case 0:
                data[place] ^= 1 << draw.randrange(8)
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = data[place : place + length]
            case 3:
                data[place : place + length] = bytes(draw.randrange(256) for _ in range(length))
            case 4:
                data[place:place] = draw.choice(INTERESTING)
            case _:
                del data[place:]
    return bytes(data)
