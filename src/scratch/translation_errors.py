"""What kind of mistake a translation makes, beside its reference (unit 13)."""

from collections import Counter
from collections.abc import Sequence

KINDS = (
    "exact",
    "other order",
    "one word differs",
    "words missing",
    "words too many",
    "several words differ",
)


def kind_of(written: Sequence[str], wanted: Sequence[str]) -> str:
    """Say how a translation differs from its reference.

    Returns:
        One of ``KINDS``: "exact"; "other order", the same words; "one word differs", in its place, all others being
        right; "words missing" or "words too many", but otherwise the same words; or "several words differ".
    """
    if list(written) == list(wanted):
        return "exact"
    ours, theirs = Counter(written), Counter(wanted)
    if ours == theirs:
        return "other order"
    if len(written) == len(wanted) and sum(a != b for a, b in zip(written, wanted, strict=True)) == 1:
        return "one word differs"
    if not ours - theirs:
        return "words missing"
    if not theirs - ours:
        return "words too many"
    return "several words differ"


def substitutions(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Counter[tuple[str, str]]:
    """Count (word written, word wanted) over the translations, (written, wanted), that differ in one word."""
    found: Counter[tuple[str, str]] = Counter()
    for written, wanted in pairs:
        if kind_of(written, wanted) == "one word differs":
            found.update((a, b) for a, b in zip(written, wanted, strict=True) if a != b)
    return found
