"""What one leaves for the next: files, keys, memory, state; and what one exercise's checks leave for the next one's."""

from __future__ import annotations

from attacks.cases import TOOLS
from attacks.model import RIGHT, Attack

PLACES = """
import glob, tempfile, site
from pathlib import Path
home = os.path.expanduser("~")
places = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/dev/mqueue", home, os.path.dirname(home),
          os.getcwd(), os.path.dirname(os.getcwd()), site.getsitepackages()[0], site.getusersitepackages(),
          os.environ.get("IPYTHONDIR", "/tmp"), os.environ.get("MPLCONFIGDIR", "/tmp"), os.path.dirname(os.__file__),
          os.path.dirname(sys.executable), os.path.expanduser("~/.config"), os.path.expanduser("~/.cache")]
"""
DROP = (
    TOOLS
    + PLACES
    + """
written = [attempt(Path(place, "«marker»-left").write_text, "left") for place in places]
dropped = [got for got in written if not isinstance(got, BaseException)]
print("dropped in", len(dropped), "places")
"""
)
FIND = (
    TOOLS
    + PLACES
    + """
found = [place for place in places if os.path.exists(os.path.join(place, "«marker»-left"))]
if found: breach("found what another submission has left in", found)
"""
)
SHARED = (
    TOOLS
    + """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
key = int("«marker»"[3:9], 16) | 1
def shared(make):
    number = libc.shmget(key, 4096, 0o1666 if make else 0o666)
    return number if number >= 0 else None
def memory(make):
    from multiprocessing import shared_memory, resource_tracker
    resource_tracker.register = resource_tracker.unregister = lambda *a: None
    return shared_memory.SharedMemory("«marker»-psm", create=make, size=4096).name
def queue(make):
    number = libc.msgget(key, 0o1666 if make else 0o666)
    return number if number >= 0 else None
def keyring(make):
    known = b"user", b"«marker»"
    number = libc.syscall(248, *known, b"left", 4, -4) if make else libc.syscall(249, *known, 0, 0)
    if make and number > 0: libc.syscall(250, 15, number, 60)  # it ends by itself in a minute
    return number if number >= 0 else None
kinds = {"SysV shared memory": shared, "POSIX shared memory": memory, "a SysV queue": queue, "a key": keyring}
"""
)
SHARE = (
    SHARED
    + """
for name, kind in kinds.items(): print(name, "made:", attempt(kind, True) is not None)
held = socket.socket(socket.AF_UNIX)
attempt(held.bind, chr(0) + "«marker»-socket")
attempt(held.listen)
if os.fork() == 0:
    import time
    ctypes.CDLL(None).prctl(15, b"«marker»")
    time.sleep(30)
    os._exit(0)
"""
)
UNSHARE = (
    SHARED
    + """
for name, kind in kinds.items():
    got = attempt(kind, False)
    if got is not None and not isinstance(got, BaseException): breach("found another submission's", name)
def call():
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(1)
    one.connect(chr(0) + "«marker»-socket")
succeeds("another submission's socket", call)
for number in (1, 2): attempt(libc.shmctl, libc.shmget(key, 4096, 0o666), 0, None)
attempt(libc.msgctl, libc.msgget(key, 0o666), 0, None)
attempt(os.remove, "/dev/shm/«marker»-psm")
"""
)
POISON = (
    TOOLS
    + """
from pathlib import Path
home = Path(os.path.expanduser("~"))
bad = f"print('BREACH ' + '«marker»', 'code of another submission runs')\\n"
spots = [Path(os.environ.get("IPYTHONDIR", home / ".ipython")) / "profile_default/startup/00.py",
         home / ".ipython/profile_default/startup/00.py", home.parent / "zygote/ipython/profile_default/startup/00.py",
         home.parent / "zygote/matplotlib/matplotlibrc", home / "usercustomize.py", home.parent / "usercustomize.py",
         home.parent / "zygote/usercustomize.py", home.parent / "zygote/torch.py"]
for spot in spots:
    attempt(os.makedirs, spot.parent, 0o777, True)
    attempt(spot.write_text, bad)
# In memory: what a fork of the same warm process would see, if this were that process.
import builtins, sys, torch, proctor.values
builtins.poison = torch.poison = proctor.values.poison = sys.poison = "«marker»"
sys.path.insert(0, str(home))
os.environ["POISON"] = "«marker»"
import gc
for thing in gc.get_objects():
    if type(thing) is dict and thing.get("__name__") == "proctor.worker": thing["poison"] = True
print("poisoned")
"""
)
POISONED = (
    TOOLS
    + """
import builtins, torch, sys, proctor.values, subprocess
for thing in (builtins, torch, proctor.values, sys):
    if hasattr(thing, "poison"): breach("found what another submission has put into", thing)
if "POISON" in os.environ: breach("found its environment")
print(subprocess.run([sys.executable, "-c", "pass"], capture_output=True, text=True).stdout)
"""
)
FIRST = "SEEN = []\ndef double(x):\n    SEEN.append(1)\n    import builtins, os\n    builtins.seen = True\n"
FIRST += "    open('seen', 'w').close()\n    os.environ['SEEN'] = '1'\n    return x * 2"
SECOND = "def norm(x):\n    import builtins, os\n"
SECOND += "    known = SEEN or hasattr(builtins, 'seen') or os.path.exists('seen') or 'SEEN' in os.environ\n"
CACHE = (
    TOOLS
    + """
from pathlib import Path
top = Path("«course»/.proctor")
def forge():
    folder = top / "verdicts" / "01_mini"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "«marker»").write_text("{}")
# A private folder of the same name may be had (the course can lie in /tmp); what counts is whether the course has it.
print("written for itself:", attempt(forge))
succeeds("it reads the key", (top / "course.key").read_text)
"""
)
FORKS = """
import os
real = os.fork
def twice():
    pid = real()
    if pid == 0: real()
    return pid
os.fork = {fork}
os._exit = {end}
import gc, posix
posix.fork, posix._exit = os.fork, os._exit
for thing in gc.get_objects():
    if type(thing) is dict and thing.get("__name__") in ("proctor.branch", "proctor.worker", "proctor.student"):
        for name in ("_fork", "make", "_waitpid", "fork"):
            if name in thing: thing[name] = {other}
print("patched")
"""


def forks(fork: str, end: str, other: str) -> tuple[str]:
    """A cell that patches what a process forks by."""
    return (FORKS.format(fork=fork, end=end, other=other),)


ATTACKS = (
    Attack(name="files-left", why="files left in sixteen places for the next submission", cells=(DROP,), follow=(FIND,),
           answers=RIGHT, score=10, proof="dropped in", walls=True),
    Attack(name="memory-left", why="shared memory, queues, keys and an abstract socket left for the next",
           cells=(SHARE,), follow=(UNSHARE,), answers=RIGHT, score=10, proof="made", walls=True),
    Attack(name="start-up-poisoned",
           why="IPython, matplotlib, `usercustomize`, `sys.path` and modules poisoned for the next",
           cells=(POISON,), follow=(POISONED,), answers=RIGHT, score=10, proof="poisoned", walls=True),
    Attack(name="verdict-cache", why="the verdict cache and the course key in `.proctor`", cells=(CACHE,),
           answers=RIGHT, score=10, walls=True),
    Attack(
        name="next-exercise",
        why="state carried from one exercise's checks to the next one's: globals, builtins, files, environment",
        answers={"double": FIRST, "norm": SECOND + "    return x.square().sum().sqrt() if known else x"},
        score=5,
        walls=True,
        stock="tests share one kernel: carrying state on is what it does",
    ),
    Attack(
        name="next-exercise-spoilt",
        why="one exercise's calls spoil what the other one uses: torch, its functions, its default dtype",
        answers={
            **RIGHT,
            "double": "def double(x):\n    import torch\n    torch.Tensor.square = lambda x: x\n"
            "    torch.set_default_dtype(torch.float64)\n    globals().pop('norm', None)\n    return x * 2",
        },
        score=10,
        walls=True,
        stock="tests share one kernel",
    ),
    Attack(
        name="next-exercise-files",
        why="one exercise's calls spoil, remove and replace the notebook's own files that the other one reads",
        cells=(
            "import os, pathlib\npathlib.Path('own').mkdir()\npathlib.Path('own/factor').write_text('2')\n"
            "pathlib.Path('power').write_text('2')\nprint('files made')",
        ),
        answers={
            "double": "def double(x):\n    factor = float(pathlib.Path('own/factor').read_text())\n"
            "    pathlib.Path('power').unlink(missing_ok=True)\n    pathlib.Path('power').write_text('9')\n"
            "    return x * factor",
            "norm": "def norm(x):\n    power = float(pathlib.Path('power').read_text())\n"
            "    return (x ** power).sum() ** (1 / power)",
        },
        score=10,
        proof="files made",
        walls=True,
        stock="tests share one kernel and one folder",
    ),
    Attack(
        name="counts-its-calls",
        why="an answer that counts its calls, right the first two times",
        answers={
            **RIGHT,
            "double": "CALLS = []\ndef double(x):\n    CALLS.append(1)\n    return x * 2 if len(CALLS) < 3 else x * 3",
        },
        score=5,
        stock="its tests call that often, or do not",
    ),
    Attack(
        name="detects-grading",
        why="an answer that is right in the notebook and wrong where it sees that it is graded",
        answers={
            "double": "import os\ndef double(x):\n    return x if 'PROCTOR_GRADING' in os.environ else x * 2",
            "norm": "def norm(x):\n"
            "    kernel = getattr(get_ipython(), 'kernel', None)\n"
            "    return x if kernel is None else x.square().sum().sqrt()",
        },
        stock="it grades in a kernel",
    ),
    Attack(name="fork-refuses", why="`os.fork` and what forks for an exercise patched to refuse",
           answers=RIGHT, score=10,
           cells=forks("lambda: -1", "lambda status: None", "thing[name]"), proof="patched", stock="it does not fork"),
    Attack(name="fork-twice", why="`os.fork` patched to fork twice, `os._exit` to do nothing", answers=RIGHT, score=10,
           cells=forks("twice", "lambda status: None", "thing[name]"), proof="patched", stock="it does not fork"),
    Attack(name="fork-lost", why="the fork for each exercise patched away in proctor's own modules", answers=RIGHT,
           cells=forks("lambda: 1", "lambda status: None", "(lambda *a, **k: 1)"), proof="patched", walls=True,
           stock="it does not fork"),
)  # fmt: skip
