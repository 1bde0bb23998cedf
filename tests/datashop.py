"""Tiny packages, an index on the loopback that serves them to pip and counts, and a set that is built of them."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from scratch.data.manifest import Manifest

WORDS = b"to be\nor not to be\n"


def wheel(name: str, members: Mapping[str, bytes]) -> bytes:
    """A wheel that holds some members beside what pip asks for."""
    info = f"{name}-1.0.dist-info"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in {
            **members,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        }.items():
            archive.writestr(path, content)
    return file.getvalue()


def tar(members: Mapping[str, bytes]) -> bytes:
    """A compressed tar file of some members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path, content in members.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def sdist(name: str, members: Mapping[str, bytes], trap: Path) -> bytes:
    """A source package whose set-up, if anybody ran it, would leave a file behind."""
    setup = f"open({str(trap)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name={name!r}, version='1.0')\n"
    files = {
        "setup.py": setup.encode(),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
    }
    return tar({f"{name}-1.0/{path}": content for path, content in {**files, **members}.items()})


class Shop:
    """An index of packages on the loopback; what it serves can be changed, cut off and slowed down."""

    def __init__(self, folder: Path) -> None:
        self.trap = folder / "setup.py was run"
        self.files = {
            "tiny_words-1.0-py3-none-any.whl": wheel(
                "tiny_words", {"tiny_words/words.txt": WORDS, "tiny_words/code.py": b"1/0"}
            ),
            "tiny_tweets-1.0.tar.gz": sdist(
                "tiny_tweets", {"data/inside.tar.gz": tar({"deep/tweets.txt": b"hello"})}, self.trap
            ),
        }
        self.true = dict(self.files)
        self.served: Counter[str] = Counter()
        self.cut = 0  # bytes that are left out at the end
        self.seconds = 0.0  # that a file takes
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rstrip("/").rpartition("/")[2]
                if self.path.startswith("/files/"):
                    shop.serve(self, name)
                    return
                links = [
                    f'<a href="/files/{file}">{file}</a>'
                    for file in shop.files
                    if file.startswith(name.replace("-", "_"))
                ]
                body = "".join(links).encode()
                self.send_response(200 if links else 404)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, handler: BaseHTTPRequestHandler, name: str) -> None:
        content = self.files[name]
        self.served[name] += 1
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        content = content[: len(content) - self.cut]
        half = len(content) // 2
        try:
            handler.wfile.write(content[:half])
            handler.wfile.flush()
            time.sleep(self.seconds)
            handler.wfile.write(content[half:])
        except OSError:  # whoever asked is gone
            pass
        handler.close_connection = True

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def settings(self) -> dict[str, str]:
        """pip's settings for this index alone."""
        return {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{self.server.server_port}/simple",
            "PIP_RETRIES": "3",
            "PIP_DEFAULT_TIMEOUT": "60",
            "NO_PROXY": "127.0.0.1",
        }

    def manifest(self) -> str:
        """A manifest of the files as they were made, as TOML."""
        packages = []
        members = {
            "tiny_words": "tiny_words/*.txt",
            "tiny_tweets": "tiny_tweets-1.0/data/inside.tar.gz!deep/*.txt",
        }
        for file, content in self.true.items():
            name = file.partition("-")[0]
            packages.append(
                f'[[sets.packages]]\nname = "{name}"\nversion = "1.0"\nfile = "{file}"\nsize = {len(content)}\n'
                f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nlicence = "MIT"\nhomepage = ""\nused = "all"\n'
                f'members = ["{members[name]}"]\n'
            )
        head = '[[sets]]\nname = "{}"\nbuild = 1\nunits = ["99"]\nwhat = "a test"\n'
        return head.format("words") + packages[0] + head.format("tweets") + packages[1]


def build(sources: Mapping[str, Mapping[str, bytes]], to: Path) -> dict[str, int]:
    """Write what is used, all in one file."""
    content = b"".join(content for members in sources.values() for content in members.values())
    (to / "all.txt").write_bytes(content)
    return {"bytes": len(content)}


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from datashop import build
from scratch.data.command import main
from scratch.data.manifest import Manifest
{before}
sys.exit(main(sys.argv[1:], Manifest.read(Path({manifest!r})), lambda name: build))
"""


class Room:
    """A folder for data, and the command run on it in a process of its own."""

    def __init__(self, folder: Path, shop: Shop) -> None:
        self.shop, self.data = shop, folder / "data"
        self.toml = folder / "manifest.toml"
        self.toml.write_text(shop.manifest(), "utf-8")
        cleaned = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        self.environment = {**cleaned, **shop.settings(), "SCRATCH_DATA": str(self.data), "COLUMNS": "200"}

    @property
    def manifest(self) -> Manifest:
        return Manifest.read(self.toml)

    def start(self, *arguments: str, before: str = "", **how: object) -> subprocess.Popen[str]:
        script = SCRIPT.format(here=str(Path(__file__).parent), manifest=str(self.toml), before=before)
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **how,
        )

    def run(self, *arguments: str, before: str = "", **how: object) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, before=before, **how)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def done(self, *arguments: str, **how: object) -> subprocess.CompletedProcess[str]:
        """Run what must succeed; where it does not, the test ends with what was said."""
        done = self.run(*arguments, **how)
        assert done.returncode == 0, done
        return done

    def refused(self, *arguments: str, code: int = 1, **how: object) -> str:
        """Run what must fail, and return the one line that it says."""
        done = self.run(*arguments, **how)
        assert done.returncode == code, done
        (line,) = done.stderr.splitlines()
        assert line.startswith("data: ")
        assert "Traceback" not in done.stdout
        return line

    def built(self, name: str) -> bytes | None:
        """What a loader would find of a set."""
        place = self.data / self.manifest.sets[name].key
        return (place / "all.txt").read_bytes() if (place / "provenance.json").is_file() else None

    def left(self) -> set[str]:
        """What lies in the folder that is neither built nor kept on purpose."""
        keys = {data.key for data in self.manifest.sets.values()}
        names = (
            {path.name for path in self.data.iterdir()}
            - keys
            - {"sources", "downloads", "packages", "unfinished", ".lock"}
        )
        inside = {path.name for part in ("downloads", "unfinished") for path in (self.data / part).glob("*")}
        return names | inside
