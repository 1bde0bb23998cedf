"""The wire between the two processes, spoken by somebody who knows it. Answers are right; what they say is not."""

from __future__ import annotations

from attacks.cases import TOOLS
from attacks.model import RIGHT, Attack

# `instead(f)`: where a check calls an answer, f(peer) is done in place of the reply.
SPEAK = (
    TOOLS
    + """
import json, struct, time, stat
from proctor.peer import Peer
_reply = Peer.reply
def wires():
    found = []
    for number in range(3, 300):
        try: mode = os.fstat(number).st_mode
        except OSError: continue
        if stat.S_ISSOCK(mode): found.append(number)
    return found
def frame(text, *buffers):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    sizes = struct.pack(f"<{len(buffers)}Q", *map(len, buffers))
    return struct.pack("<4sII", b"prw1", len(text), len(buffers)) + sizes + text + b"".join(buffers)
def write(raw):
    view = memoryview(raw)
    while view: view = view[os.write(wires()[-1], view):]
def instead(answer):
    def reply(self, header, buffers, deadline=None):
        if header.get("op") == "invoke": answer(self)
        else: _reply(self, header, buffers, deadline)
    Peer.reply = reply
    print("ready")
TENSOR = {"tensor": {"dtype": "float32", "shape": [2], "buffer": 0}}
"""
)
# What is written in place of a reply, or done.
JUNK = {
    "too-long": ("a reply that claims 4 GB of text", 'write(struct.pack("<4sII", b"prw1", 2**32 - 1, 0))'),
    "too-many": (
        "a reply that claims 4 billion buffers",
        'write(struct.pack("<4sII", b"prw1", 2, 2**32 - 1) + b"{}")',
    ),
    "huge-buffer": ("a buffer of 2**63 bytes", 'write(struct.pack("<4sIIQ", b"prw1", 2, 1, 2**63) + b"{}")'),
    "too-deep": (
        "a reply nested 100,000 deep",
        """write(frame(b'{"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))""",
    ),
    "no-frame": ("a reply that is no message", "write(b'HTTP/1.1 200 OK\\r\\n\\r\\n' + bytes(100))"),
    "no-json": ("a reply that is no JSON", "write(frame(b'\\xff{'))"),
    "wrong-types": (
        "replies of wrong types",
        """write(frame({"value": {"tensor": {"dtype": ["float32"], "shape": {"a": 1}, "buffer": "0"}}}))""",
    ),
    "empty-shape": (
        "an empty tensor of enormous shape",
        """write(frame({"value": {"tensor": {"dtype": "float32", "shape": [0, 2**47, 2**47], "buffer": 0}}}, b""))""",
    ),
    "one-buffer-often": (
        "10,000 tensors that share a buffer of 1 MB",
        """one = {"tensor": {"dtype": "uint8", "shape": [1 << 20], "buffer": 0}}
    write(frame({"value": [one] * 10_000}, bytes(1 << 20)))""",
    ),
    "unknown-handle": (
        "handles that do not exist: negative, huge, none of its own",
        """write(frame({"value": {"handle": [[-1, 10**30, 0][os.getpid() % 3], "float", "x"]}}))""",
    ),
    "same-hash": (
        "100,000 keys that share a hash",
        """write(frame({"value": {"set": [{"int": hex(n * (2**61 - 1))} for n in range(100_000)]}}))""",
    ),
    "forged-tape": (
        "a tape for gradients that never was, and a change of arguments that were not sent",
        'write(frame({"value": {**TENSOR}, "tape": 99, "changed": [[7, TENSOR]]}, bytes(8)))',
    ),
    "forged-error": (
        "an error with escape codes, of a type that is none",
        """rows, kinds = [["f", 1, "c"]] * 999, ["SystemExit"] * 999
    write(frame({"error": ["\\x1b[31mE\\x07", "\\x1b]0;t\\x07" * 9000, rows, kinds]}))""",
    ),
    "drip": (
        "a reply that drips, a byte every fifth of a second",
        "for byte in frame({'value': 1}) * 30: write(bytes([byte])); time.sleep(0.2)",
    ),
    "flood": ("replies without end", "while True: write(frame({'value': 'x' * 100_000}))"),
    "flood-of-requests": (
        "requests without end, for functions that were never passed in",
        "while True: write(frame({'op': 'invoke', 'content': {'dict': [['target', 0], ['method', '__call__']]}}))",
    ),
    "pipelined": (
        "a thousand replies ahead of the questions",
        "write(frame({'value': 1.0}) * 1000)",
    ),
    "silence": ("no reply", "time.sleep(60)"),
    "hangs-up": ("a wire that is closed in a call", "[os.close(number) for number in wires()]"),
}
ASKS = """
def ask(peer):
    # Everything that the student's side answers, asked of the other one: it must answer nothing but callbacks.
    for op in ("run", "get", "has", "attribute", "assign", "seed", "branch", "vjp", "invoke", "__init__", ""):
        fields = {"name": "course", "source": "1", "target": 0, "method": "__class__", "args": [], "seed": 1}
        fields["kwargs"] = {}
        content = {"dict": [[key, {"dict": []} if key == "kwargs" else value] for key, value in fields.items()]}
        write(frame({"op": op, "content": content}))
        header, _ = peer.connection.receive()
        if "error" not in header: breach("the trusted side answers", op, str(header)[:200])
def reply(self, header, buffers, deadline=None):
    if header.get("op") == "invoke": ask(self)
    _reply(self, header, buffers, deadline)
Peer.reply = reply
print("ready")
"""
SECOND_VOICE = """
def again(value):
    write(frame({"value": value}))  # a reply before the reply: the next question finds it
    return 0
"""
LEFT_TO_ANSWER = """
import signal
def stay():
    # Somebody who stays behind with the wire, and answers for whoever comes next.
    kept = [os.dup(number) for number in wires()]
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            import ctypes
            ctypes.CDLL(None).prctl(15, b"«marker»")
            for _ in range(100):
                for number in kept:
                    try: os.write(number, frame({"value": 10.0}))
                    except OSError: pass
                time.sleep(0.2)
        finally:
            os._exit(0)
    return 0
"""


def five(body: str) -> dict[str, str]:
    """`double` does it, `norm` is right."""
    return {**RIGHT, "double": f"def double(x):\n    {body}"}


ATTACKS = (
    *(
        Attack(
            name=name,
            why=why,
            cells=(f"{SPEAK}def say(peer):\n    {body}\ninstead(say)",),
            answers=RIGHT,
            proof="ready",
            stock="it has no wire",
        )
        for name, (why, body) in JUNK.items()
    ),
    Attack(
        name="asks-back",
        why="every request of its own, of the side that scores",
        cells=(SPEAK + ASKS,),
        answers=RIGHT,
        score=10,
        proof="ready",
        stock="it has no wire",
    ),
    Attack(
        name="second-voice",
        why="the wire's descriptor, written to by an answer while a call runs",
        cells=(SPEAK + SECOND_VOICE,),
        answers=five("return again(1.0)"),
        score=5,
        stock="it has no wire",
    ),
    Attack(
        name="left-to-answer",
        why="a process left behind that answers for whoever is next",
        cells=(SPEAK + LEFT_TO_ANSWER,),
        answers=five("return stay()"),
        score=5,
        stock="it has no wire",
    ),
)
