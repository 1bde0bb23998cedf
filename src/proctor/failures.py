"""What a check that did not pass says: which outcome an exception is, and the lines that the learner reads."""

from __future__ import annotations

from typing import NamedTuple

from proctor.results import Outcome
from proctor.trouble import StudentGone, Trouble, clean, describe

MAX_LINES = 10  # of one message
MAX_LINE = 300  # characters of one line


class Judged(NamedTuple):
    """How a check has ended, and what is told: the fields of a ``CheckResult``."""

    outcome: Outcome
    message: str = ""
    mistake: str = ""
    ask: str = ""


def judge_failure(error: BaseException, exercise: str, call: str, found: str = "") -> Judged:
    """How a check that raised has ended, and what the learner is told.

    ``found`` says what lies under the exercise's name where that cannot be called.
    """
    outcome, message = _judge(error, exercise, call, found)
    if outcome is not Outcome.FAILED or isinstance(error, StudentGone):
        return Judged(outcome, message)
    if isinstance(error, AssertionError) and trouble_of(error) is None:
        return Judged(outcome, message, getattr(error, "mistake", ""), getattr(error, "ask", ""))
    # What has been raised ends with a question of ours, whatever the learner's code has put into the lines above it.
    return Judged(outcome, message, ask=message.splitlines()[-1].removeprefix(f"{'Ask':<10}"))


def _judge(error: BaseException, exercise: str, call: str, found: str) -> tuple[Outcome, str]:
    called = f"{'Called':<10}{call}\n" if call else ""
    if isinstance(error, StudentGone):
        return Outcome.FAILED, called + str(error)
    trouble = trouble_of(error)
    if trouble is not None:
        if is_stub(trouble):
            name = trouble.text.strip()
            waits = name not in ("", exercise) and name.isidentifier()
            return Outcome.NOT_ATTEMPTED, f"waits for `{name}`, which is not written yet" if waits else ""
        return Outcome.FAILED, called + describe_trouble(trouble)
    if isinstance(error, AssertionError):
        # Where pytest has rewritten the asserts, it adds the expression below the message, or in its place.
        message = f"\n{error}".partition("\nassert ")[0].strip()
        if not message:
            return Outcome.GRADER_ERROR, "the check failed without saying why"
        return Outcome.FAILED, message if message.startswith("Called") else called + message
    if found and isinstance(error, TypeError) and str(error).endswith("object is not callable"):
        lines = (f"{'Expected':<10}`{exercise}` as a function or a class", f"{'Got':<10}{found}")
        return Outcome.FAILED, "\n".join(
            (*lines, f"{'Ask':<10}Which line gives this name to something else?")
        )
    if not isinstance(error, Exception):
        return Outcome.GRADER_ERROR, f"a check fails by assertions only, not by {error!r}"
    return Outcome.GRADER_ERROR, f"the check itself broke: {type(error).__name__}: {error}"


def trouble_of(error: BaseException) -> Trouble | None:
    """An exception as one of the learner's code, if it is: marked as such, or raised in a cell of the notebook."""
    marked = getattr(error, "trouble", None)
    if isinstance(marked, Trouble):
        return marked
    if isinstance(error, AssertionError):
        return None  # the verdict of a check, also where it was called back from the learner's code
    told = describe(error)
    return told if told.rows else None


def is_stub(trouble: Trouble) -> bool:
    """Whether an exception is that of a stub which nobody has filled in yet."""
    text = trouble.text.strip()
    bare = text == "" or text.isidentifier() or 'missing the required "forward" function' in text
    return trouble.type == "NotImplementedError" and bare


def describe_trouble(trouble: Trouble) -> str:
    """An exception of the learner's code, in the lines of a failure."""
    text = trouble.text.strip().splitlines() or [""]
    if trouble.type == "WireError":  # the call went well, but its answer is no data
        lines = (f"{'Expected':<10}an answer of plain data, such as an array", f"{'Got':<10}{text[0][:200]}")
        return "\n".join((*lines, f"{'Ask':<10}What kind of object does the `return` hand back?"))
    lines = [f"{'Raised':<10}{trouble.type}: {text[0][:200]}"]
    for function, line, code in trouble.rows[-2:]:
        lines.append(f"{'At':<10}line {line} of {function}: {code[:120]}")
    lines.append(f"{'Ask':<10}{_question(trouble, text[0])}")
    return "\n".join(lines)


_SHAPES = "Which shapes meet in that line? Write them down next to each other."
# The next question, by words that torch or NumPy say; the first that fits.
_ASK = (
    ("What does NumPy call what torch calls `dim`?", ("unexpected keyword argument 'dim'", "'keepdim'")),
    (
        "Do the parameters still have the names and the order that the stub gave them?",
        ("positional argument", "unexpected keyword"),
    ),
    (
        "Which function is meant to be called in that line, and with what?",
        ("'function' object is not", "'function' and '", "and 'function'"),
    ),
    ("Which letter stands for two different sizes?", ("with remapped shapes", "with previously seen size")),
    (
        _SHAPES,
        (
            "size of tensor",
            "shapes cannot be multiplied",
            "must match",
            "must have the same shape",
            "could not be broadcast together",
            "could not broadcast input array",
            "mismatch in its core dimension",
            "not aligned",
        ),
    ),
    ("Where does that line take a whole tensor for one yes or no?", ("Boolean value of Tensor",)),
    ("Where does that line take a whole array for one yes or no?", ("truth value of an array",)),
    ("Which of the rows that become an array differ in length?", ("inhomogeneous shape",)),
    (
        "Where does that line take a whole array for one number?",
        ("converted to Python scalars", "array element with a sequence"),
    ),
    (
        "How many dimensions does the array have here? The last axis is -1, however many there are.",
        ("is out of bounds for array", "axes don't match"),
    ),
    ("How many entries are there, and how many does the new shape ask for?", ("cannot reshape",)),
    ("Of which dtype is the array that line writes into, and of which the result?", ("Cannot cast ufunc",)),
    ("Which array does that line write into, and whose is it?", ("read-only",)),
    (
        "Are there as many letters as each operand has dimensions, and none in the output that is new?",
        ("einsum", "einstein", "subscripts"),
    ),
    ("Which tensor does that line change in place, and who else needs it?", ("in-place", "leaf Variable")),
)


def _question(trouble: Trouble, text: str) -> str:
    if trouble.type == "NameError":
        return "Is every name that this code uses defined, in a cell that has been run?"
    if trouble.type == "AttributeError" and "NoneType" in text:
        return "Which of your functions ends without `return`?"
    for question, words in _ASK:
        if any(word in text for word in words):
            return question
    if trouble.type == "AttributeError" and "numpy" in text:
        return "Is that a name of torch's, or of a list's? What does NumPy call it?"
    if trouble.type == "LinAlgError":
        return "What does that function ask of its matrix: square, symmetric, invertible? Is yours?"
    if trouble.type == "IndexError":
        return "Which index is meant there, and how long is that dimension?"
    if trouble.type == "NotImplementedError":
        return "Which of the operations in that line does torch not offer for these inputs?"
    if trouble.rows and trouble.rows[-1][2].startswith("raise"):
        return "Your own code refuses this input, and should not here. What has led there?"
    return "What does that line do with an input of these shapes?"


def shortened(message: str) -> str:
    """A message in at most ten lines that every file and screen takes; its last line, the question, is kept."""
    lines = [line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + "…" for line in message.splitlines()]
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 2], "…", lines[-1]]
    return clean("\n".join(lines))
