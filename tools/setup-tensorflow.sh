#!/bin/sh
# Makes .venv-tensorflow, which `make test-tensorflow` uses: TensorFlow on top of .venv, whose packages it sees.
#
# What TensorFlow needs in another version (h5py) is installed here and comes first; everything else is .venv's, at the same pin.
# An interrupted run leaves no stamp behind; running it again begins anew.
set -eu
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0

stamp=.venv-tensorflow/.installed
rm -f "$stamp"
printf 'setup: TensorFlow, in .venv-tensorflow … '
began=$(date +%s)
.venv/bin/python -m venv --clear .venv-tensorflow

# Its packages come first, then those of .venv with their own .pth files, such as the one of the course itself.
.venv-tensorflow/bin/python - <<'END'
import site
from pathlib import Path

ours = Path(site.getsitepackages()[0])
theirs = Path(".venv").resolve() / ours.relative_to(Path(".venv-tensorflow").resolve())
(ours / "over.pth").write_text(f"import site; site.addsitedir({str(theirs)!r})\n", encoding="utf-8")
END

names=$(sed -n 's/^\([A-Za-z0-9._-]*\)==.*/\1/p' constraints-tensorflow.txt | paste -sd '|' -)
grep -Ev "^($names)==" constraints.txt | cat - constraints-tensorflow.txt >.venv-tensorflow/constraints.txt
if ! output=$(.venv-tensorflow/bin/python -m pip install --progress-bar off --no-warn-script-location \
    --constraint .venv-tensorflow/constraints.txt tensorflow-cpu 2>&1 </dev/null); then
    printf 'failed\n%s\n' "$output" | tail -n 15 >&2
    exit 2
fi
: >"$stamp"
printf '%d s\n' "$(($(date +%s) - began))"
