"""Resources: processes, memory, the disk, output. Everything here is bounded, walls or none."""

from __future__ import annotations

from attacks.cases import TOOLS
from attacks.cases.breaking import breaks
from attacks.model import RIGHT, Attack

# A bomb of 300 at most, each of which ends by itself.
BOMB = """
import time
made = 0
def bomb(depth=0):
    global made
    for _ in range(8):
        if made >= 40: return
        try: pid = os.fork()
        except OSError: return
        made += 1
        if pid == 0:
            if depth < 1: bomb(depth + 1)
            time.sleep(20)
            os._exit(0)
"""
PIECES = """
import time
for _ in range(12):
    if os.fork() == 0:
        try:
            kept = bytearray(os.urandom(1 << 20)) * 150
            time.sleep(20)
        finally:
            os._exit(0)
print("twelve times 150 MB")
"""
FILL = """
import tempfile, shutil
written = 0
def fill():
    global written
    with open(os.path.join(tempfile.gettempdir(), "fill-«marker»"), "wb") as file:
        while written < 700 << 20:  # no more than that, if nothing stops it
            written += file.write(bytes(8 << 20))
print("ended by", type(attempt(fill)).__name__, "after", written >> 20, "MB")
def many():
    for number in range(20_000):
        open(os.path.join(tempfile.gettempdir(), f"many-{number}"), "w").close()
print("files:", type(attempt(many)).__name__)
attempt(os.remove, os.path.join(tempfile.gettempdir(), "fill-«marker»"))
"""

ATTACKS = (
    Attack(
        name="many-slow-cells",
        why="twelve cells that each take nearly as long as one may",
        cells=("import time\ntime.sleep(2)",) * 12,
        answers=RIGHT,
        stock="30 s a cell, no total limit: it would wait them out",
    ),
    Attack(
        name="fork-bomb",
        why="a fork bomb (bounded at some hundred)",
        cells=(TOOLS + BOMB,),
        answers=breaks("for _ in range(5): bomb()\n    return x"),
        score=5,
    ),
    Attack(name="memory-at-once", why="16 GB of memory at once", answers=breaks("return bytes(16 << 30)"), score=5),
    Attack(
        name="memory-in-pieces",
        why="memory in pieces until there is none (bounded by its own limit)",
        answers=breaks(
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2)\n"
            "    kept = []\n    while True: kept.append(bytes(64 << 20))"
        ),
        score=5,
    ),
    Attack(
        name="memory-in-processes",
        why="memory in pieces by many processes",
        cells=(TOOLS + PIECES,),
        answers=RIGHT,
        score=10,
        proof="twelve times",
    ),
    Attack(name="disk", why="the disk filled, in bytes and in files", cells=(TOOLS + FILL,), answers=RIGHT, score=10,
           proof="ended by"),
    Attack(
        name="long-line",
        why="50 MB on one line",
        cells=("print('x' * 50_000_000)",),
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="many-lines",
        why="300,000 lines",
        cells=("for n in range(300_000): print(n)",),
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="recursion",
        why="recursion without end, and a limit lifted before it",
        answers=breaks("import sys; sys.setrecursionlimit(10**9)\n    def f(): return f() + 1\n    return f()"),
        score=5,
    ),
)  # fmt: skip
