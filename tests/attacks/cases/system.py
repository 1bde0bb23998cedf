"""The kernel, and the process that it is a fork of: what a submission may ask for and must not get."""

from __future__ import annotations

from attacks.cases import TOOLS
from attacks.model import RIGHT, Attack

CALLS = (
    TOOLS
    + """
import ctypes, platform, struct, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(what, *arguments):
    number = libc.syscall(*arguments)
    if number >= 0: breach("the kernel grants", what)
    else: print("refused:", what, ctypes.get_errno())
    return number
"""
)
# Only what does no harm where it is granted; what would is asked for inside namespaces only. Numbers of x86_64.
SYSTEM_CALLS = """
if platform.machine() == "x86_64":
    page = ctypes.create_string_buffer(4096)
    got = call("io_uring", 425, 4, page)
    if got >= 0: os.close(got)
    got = call("userfaultfd", 323, 1)
    if got >= 0: os.close(got)
    attr = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1) + bytes(112))  # an array map of one entry
    got = call("bpf", 321, 0, attr, 128)
    if got >= 0: os.close(got)
    event = ctypes.create_string_buffer(struct.pack("II", 1, 120) + bytes(112))
    got = call("perf_event_open", 298, event, 0, -1, -1, 0)
    if got >= 0: os.close(got)
    call("add_key", 248, b"user", b"«marker»-k", b"x", 1, -2)  # the process's own ring, gone with it
    if INSIDE:
        call("mount", 165, b"tmpfs", b"/tmp", b"tmpfs", 0, 0)
        call("umount", 166, b"/proc", 2)
        call("pivot_root", 155, b"/tmp", b"/tmp")
        call("chroot", 161, b"/")
        call("sethostname", 170, b"mine", 4)
        call("open_by_handle_at", 304, 3, page, 0)
        call("setns", 308, 0, 0)
print("asked")
"""
NAMESPACES = """
def inside():
    pid = os.fork()
    if pid == 0:
        granted = 0
        for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000):
            granted |= libc.unshare(flag) == 0
        granted |= libc.unshare(0x10000000 | 0x20000) == 0
        os._exit(7 if granted else 0)
    return os.waitpid(pid, 0)[1] >> 8
if inside() == 7: breach("it makes namespaces of its own")
cloned = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) if platform.machine() == "x86_64" else -1
if cloned == 0: os._exit(0)
if cloned > 0:
    os.waitpid(cloned, 0)
    breach("it clones into a user namespace")
print("asked")
"""
SOCKETS = """
families = {"AF_NETLINK": 16, "AF_PACKET": 17, "AF_VSOCK": 40, "AF_ALG": 38, "AF_BLUETOOTH": 31, "AF_KEY": 15}
kinds = {40: socket.SOCK_STREAM, 38: socket.SOCK_SEQPACKET, 31: socket.SOCK_SEQPACKET}
for name, family in families.items():
    def make(): socket.socket(family, kinds.get(family, socket.SOCK_RAW)).close()
    if name == "AF_NETLINK" and not INSIDE: continue  # anybody may, on most machines
    succeeds(name, make)
succeeds("a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close())
print("asked")
"""
SETUID = """
import glob, stat, subprocess
found = [path for top in ("/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin") for path in glob.glob(top + "/*")
         if not isinstance(attempt(os.stat, path), BaseException) and os.stat(path).st_mode & stat.S_ISUID]
status = open("/proc/self/status").read() if os.path.exists("/proc/self/status") else "NoNewPrivs:\\t1"
if found and "NoNewPrivs:\\t1" not in status: breach("setuid programs work", found[:3])
if os.getuid() == 0: breach("it is root")
def become(): os.setuid(0)
succeeds("it becomes root", become)
def make():
    open("mine", "w").close()
    os.chmod("mine", 0o4755)
    os.chown("mine", 0, 0)
    os.mknod("device", stat.S_IFBLK | 0o666, os.makedev(8, 0))
succeeds("it makes a setuid file and a device", make)
effective = [line for line in status.splitlines() if line.startswith("CapEff")]
if effective and int(effective[0].split()[1], 16): breach("it has capabilities", effective)
print("asked")
"""
OOM = """
def choose(value):
    with open("/proc/self/oom_score_adj", "w") as file: file.write(str(value))
if INSIDE: succeeds("it asks to be the last that is killed for memory", choose, -1000)
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper",
             "/sys/fs/cgroup/cgroup.procs", "/proc/sys/kernel/hostname", "/dev/kmsg", "/dev/mem"):
    def appended(): os.close(os.open(path, os.O_WRONLY))
    if INSIDE: succeeds("it opens " + path, appended)
print("asked")
"""
PARENT = """
import stat
links = {}
for number in range(1024):
    got = attempt(os.fstat, number)
    if not isinstance(got, BaseException): links[number] = got.st_mode
others = {number: mode for number, mode in links.items()
          if number > 3 and not stat.S_ISSOCK(mode) and not stat.S_ISFIFO(mode) and number not in (4,)}
for number in others:
    name = str(attempt(os.readlink, f"/proc/self/fd/{number}"))
    if not name.startswith(("/dev/", "/proc", "anon_inode", "/learner/work")):
        breach("a descriptor of its parent's", number, name)
sockets = [number for number, mode in links.items() if stat.S_ISSOCK(mode)]
if len(sockets) > 1: breach("more sockets than the wire", sockets)
parent = os.getppid()
for name in ("mem", "maps", "environ", "fd", "root", "cwd"):
    path = f"/proc/{parent}/{name}"
    def look(): return os.listdir(path) if name in ("fd", "root", "cwd") else open(path, "rb").read(1) or 1 / 0
    if INSIDE and parent > 0: succeeds("it looks into its parent's " + name, look)
if INSIDE:
    first = open("/proc/1/cmdline").read() if not isinstance(attempt(open, "/proc/1/cmdline"), BaseException) else ""
    if "grading.py" in first: breach("it sees the process that grades")
    attempt(os.kill, 1, 9)
    attempt(os.kill, 1, 19)
    succeeds("it signals its parent's group", os.killpg, os.getpgid(parent) if parent > 1 else 99999, 0)
print("asked")
"""
HOOKS = """
import sys, gc, atexit, threading, signal, faulthandler
def spy(frame, event, argument): return spy
sys.settrace(spy)
threading.settrace(spy)
sys.setprofile(lambda *a: None)
sys.addaudithook(lambda event, arguments: None)
atexit.register(print, "late")
sys.excepthook = sys.unraisablehook = lambda *a: None
sys.setswitchinterval(1e-6)
gc.disable()
signal.setitimer(signal.ITIMER_REAL, 60)
class Clinging:
    def __del__(self): KEPT.append(self)
KEPT = [Clinging()]
sys.settrace(None)
print("hooked")
"""
OBJECTS = """
import gc
from proctor.student import Student
from proctor.peer import Peer
for thing in gc.get_objects():
    if type(thing) is Student:
        thing.handles.clear()
        thing.numbers.clear()
    if type(thing) is Peer:
        thing.answer["has"] = lambda content: True
        thing.answer["get"] = lambda content: 10.0
        thing.answer["seed"] = lambda content: {"score": 10.0}
        thing.tape.clear()
print("tampered")
"""
SLEEPER = "import time\ntime.sleep(1.7)"


def right(name: str, why: str, cell: str, proof: str = "asked", **more: object) -> Attack:
    """It asks, is refused, and has right answers: 10."""
    settings = {"answers": RIGHT, "score": 10.0, "walls": True, "stock": "it refuses nothing", **more}
    return Attack(name=name, why=why, cells=(cell,), proof=proof, **settings)


ATTACKS = (
    right("system-calls", "io_uring, bpf, userfaultfd, perf, keys, mount, chroot, setns", CALLS + SYSTEM_CALLS),
    right("namespaces", "user namespaces of its own", CALLS + NAMESPACES),
    right("sockets", "netlink, packet, vsock and raw sockets", CALLS + SOCKETS),
    right("setuid", "setuid programs, capabilities, devices", TOOLS + SETUID),
    right("oom-score", "/proc/self/oom_score_adj, core_pattern, sysrq, /dev/mem", TOOLS + OOM),
    right("parent", "its parent: descriptors, /proc, signals", TOOLS + PARENT),
    right("hooks", "`sys.settrace`, audit hooks, a timer, `__del__`, no `gc`", HOOKS, "hooked", walls=False),
    right("worker-objects", "the worker's own objects, found by `gc`", OBJECTS, "tampered", walls=False),
    Attack(
        name="sleeps-below-the-limit",
        why="every call sleeps just below its limit: the total limit holds",
        answers={
            "double": "def double(x):\n    import time\n    time.sleep(1.7)\n    return x * 2",
            "norm": "import time\nclass Norm:\n    def __call__(self, x):\n        for _ in range(9): time.sleep(1.9)\n"
            "        return x\nnorm = Norm()",
        },
        score=5,
    ),
    Attack(
        name="slow-exceptions",
        why="an exception whose text takes forever, and a repr that does",
        answers={
            **RIGHT,
            "double": "import time\nclass Slow(Exception):\n    def __str__(self):\n        while True: time.sleep(1)\n"
            "def double(x):\n    raise Slow()",
        },
        score=5,
    ),
)  # fmt: skip
