"""No network: what loads published models must be told so before it is imported (unit 16)."""

import os
import socket
from typing import Any

LOCAL = {"localhost", "127.0.0.1", "::1", "", None}


def refuse_network() -> None:
    """Let this process reach nothing but this machine, from here on, and the Hugging Face libraries ask for nothing.

    A connection to another machine, and the question for its address, raise an OSError. Call it before importing
    ``transformers`` or ``datasets``: they read their settings when they are imported. It also keeps progress bars and
    advice out of a notebook, and ``tokenizers`` to one thread, without which it warns where a process is forked later.
    """
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }
    os.environ.update(quiet)
    if getattr(socket.socket.connect, "refuses", False):
        return
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    ask = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in LOCAL:
            raise OSError(f"no network: the address of {host!r} was asked for")
        return ask(host, *args, **kwargs)

    socket.getaddrinfo = getaddrinfo


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise OSError(f"no network: a connection to {address[0]} was refused")
        return connect(self, address)

    guarded.refuses = True
    return guarded
