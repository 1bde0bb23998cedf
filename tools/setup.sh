#!/bin/sh
# Makes .venv and installs the course with every version pinned: `make setup` (and every other target that needs it).
#
#   PYTHON=python3.12            the Python to use (3.11 or newer); otherwise the first that fits is taken
#   TORCH_INDEX=<index URL>      where PyTorch alone is fetched from, e.g. PyTorch's own index of CPU builds
#
# pip's own settings (proxy, index, certificates) are honoured. An interrupted run leaves no stamp behind; running it
# again goes on where it stopped.
set -eu
cd "$(dirname "$0")/.."

stamp=.venv/.installed
candidates="python3 python3.13 python3.12 python3.11"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 2
}

version() { # "3.11.7", or nothing where the command is not a Python at all
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || :
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

tested() { # the Pythons for which every pin is known to have a wheel
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

makes_venvs() { # Debian's python3 without python3-venv has venv, and no ensurepip
    "$1" -c 'import venv, ensurepip' 2>/dev/null
}

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        found=$(version "$PYTHON")
        [ -n "$found" ] || fail "PYTHON=$PYTHON is not a Python that runs here; name one that is 3.11 or newer."
        new_enough "$PYTHON" || fail "PYTHON=$PYTHON is Python $found; the course needs Python 3.11 or newer."
        makes_venvs "$PYTHON" || fail "PYTHON=$PYTHON ($found) cannot make virtual environments: install its venv package (Debian and Ubuntu: python3-venv)."
        python=$PYTHON
        return
    fi
    python='' too_old='' no_venv=''
    for fits in tested new_enough; do
        for candidate in $candidates; do
            found=$(version "$candidate")
            if [ -z "$found" ]; then
                continue
            elif ! new_enough "$candidate"; then
                too_old="$candidate is $found"
            elif ! makes_venvs "$candidate"; then
                no_venv="$candidate ($found)"
            elif $fits "$candidate"; then
                python=$candidate
                return
            fi
        done
    done
    [ -z "$no_venv" ] || fail "$no_venv cannot make virtual environments: install its venv package (Debian and Ubuntu: python3-venv), or name another Python: make setup PYTHON=…"
    fail "no Python 3.11 or newer found${too_old:+ ($too_old)}: install one, or name it: make setup PYTHON=…"
}

step() { # step "what it does" command…  runs it in silence, and says how long it took
    printf 'setup: %s … ' "$1"
    shift
    began=$(date +%s)
    if output=$("$@" 2>&1 </dev/null); then
        printf '%d s\n' "$(($(date +%s) - began))"
    else
        printf 'failed\n'
        printf '%s\n' "$output" | tail -n 15 >&2
        fail "stopped at the step above; run it again to go on from there."
    fi
}

install() {
    .venv/bin/python -m pip install --progress-bar off --no-warn-script-location "$@"
}

usable() { # a .venv that is whole, new enough, and of the Python that was asked for
    new_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1 || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version .venv/bin/python)" = "$(version "$PYTHON")" ]
}

# A package whose installation was interrupted has no RECORD. Forgotten, it is installed again.
forget_halves() {
    for info in .venv/lib/python3*/site-packages/*.dist-info; do
        if [ -d "$info" ] && [ ! -f "$info/RECORD" ]; then rm -rf "$info"; fi
    done
}

if usable; then
    rm -f "$stamp"
    forget_halves
else
    choose_python
    rm -f "$stamp"
    step "virtual environment ($python, $(version "$python"))" "$python" -m venv --clear .venv
fi

# PyTorch alone and first: the one package that may come from an index of its own.
torch=$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)
if [ -n "${TORCH_INDEX:-}" ]; then
    step "PyTorch ($torch, from TORCH_INDEX)" install --no-deps --index-url "$TORCH_INDEX" "$torch"
else
    step "PyTorch ($torch)" install --no-deps "$torch"
fi

.venv/bin/python - >.venv/requirements.txt <<'END'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
needed = project["project"]["dependencies"], project["dependency-groups"]["dev"], project["build-system"]["requires"]
print(*(line for group in needed for line in group), sep="\n")
END
step "everything else, pinned" install --constraint constraints.txt --requirement .venv/requirements.txt
step "scratch and proctor" install --no-deps --no-build-isolation --editable .
: >"$stamp"
echo "setup: ready. 'make' lists what you can do; 'make lab' opens the course."
