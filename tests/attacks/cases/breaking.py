"""Processes that break: their own, their parent's, everybody's. Everything here is bounded, walls or none."""

from __future__ import annotations

from attacks.cases import TOOLS
from attacks.model import RIGHT, Attack

# Calls that break, in one of two exercises: the other one keeps its 5 points.
FIVE = "def norm(x):\n    return x.square().sum().sqrt()"


def breaks(body: str) -> dict[str, str]:
    """Answers of which one does something and the other is right."""
    return {"double": f"def double(x):\n    import os, signal, time\n    {body}", "norm": FIVE}


# Whom it may kill: itself, its parent where that is ours, and all it sees if it sees no processes but its own.
KILL = """
import signal
def everybody(how):
    parent = os.getppid()
    named = attempt(lambda: open(f"/proc/{parent}/cmdline").read())
    if parent > 1 and ("proctor" in str(named) or "nbgrader" in str(named)):
        attempt(os.kill, parent, how)
    if INSIDE:
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) not in (os.getpid(), os.getppid()):
                attempt(os.kill, int(name), how)
        attempt(os.kill, -1, how)
"""
ORPHANS = """
import subprocess, sys, time
for kind in range(3):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "«marker»"], start_new_session=True,
                     cwd="/", env={})
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        import ctypes, signal
        ctypes.CDLL(None).prctl(15, b"«marker»")  # its name
        for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)
        time.sleep(60)
    os._exit(0)
print("left four behind")
"""
ATTACKS = (
    Attack(name="exit-in-a-call", why="`os._exit` in a call", answers=breaks("os._exit(0)"), score=5),
    Attack(name="exit-in-a-cell", why="`os._exit` in a cell", cells=("import os; os._exit(0)",), answers=RIGHT,
           score=10),
    Attack(
        name="segfault",
        why="a segfault",
        answers=breaks("import ctypes; ctypes.string_at(0)"),
        score=5,
    ),
    Attack(name="sigkill-to-itself", why="SIGKILL to itself", answers=breaks("os.kill(os.getpid(), 9)"), score=5),
    Attack(
        name="stops-itself",
        why="SIGSTOP to itself",
        answers=breaks("os.kill(os.getpid(), signal.SIGSTOP)"),
        score=5,
    ),
    Attack(
        name="sigterm-to-all",
        why="SIGTERM to its parent and to every process that it sees, from a cell",
        cells=(TOOLS + KILL + "everybody(signal.SIGTERM)\nprint('sent')",),
        answers=RIGHT,
        score=10,
        walls=True,
    ),
    Attack(
        name="sigkill-to-all",
        why="SIGKILL to its parent and to every process that it sees, from a call",
        cells=(TOOLS + KILL,),
        answers=breaks("everybody(signal.SIGKILL)\n    return x"),
        score=5,
        walls=True,
    ),
    Attack(
        name="sigstop-to-all",
        why="SIGSTOP to its parent and to every process that it sees",
        cells=(TOOLS + KILL,),
        answers=breaks("everybody(signal.SIGSTOP)\n    return x"),
        score=5,
        walls=True,
    ),
    Attack(
        name="endless-loop",
        why="an endless loop, with SIGINT ignored and every signal blocked",
        answers=breaks(
            "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            "    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    while True: pass"
        ),
        score=5,
    ),
    Attack(
        name="loop-that-catches-all",
        why="an endless loop that catches every exception",
        answers=breaks("while True:\n        try: time.sleep(1000)\n        except BaseException: pass"),
        score=5,
    ),
    Attack(name="power", why="`3 ** (3 * 10**9)`: minutes in C", answers=breaks("return 3 ** (3 * 10**9)"), score=5),
    Attack(
        name="loop-in-a-cell",
        why="a loop in a cell, before the answers",
        cells=("while True: pass",),
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="loop-at-import",
        why="a loop at import time of a module that it writes",
        cells=("open('slow.py', 'w').write('while True: pass')\nimport sys\nsys.path.insert(0, '')\nimport slow",),
        answers=RIGHT,
        score=10,
    ),
    Attack(name="orphans", why="orphans left behind", cells=(TOOLS + ORPHANS,), answers=RIGHT, score=10,
           proof="left four behind"),
)  # fmt: skip
