"""The teacher's view of a class: one HTML page that works offline, prints, and holds no code of anybody's.

Names, notes and whatever else comes from a submission are hostile: cleaned of control characters, cut, and escaped. The
page loads nothing, and its own style and script are the only ones that a browser lets it use.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from functools import cache

import jinja2
from markupsafe import Markup

from proctor import charts, likeness
from proctor.gathered import Learner, State
from proctor.report import MARKS, clean, one_line, points
from proctor.results import ExerciseResult, Outcome
from proctor.tally import ExerciseCount, Tally

LIMITS = {"mistakes": 12, "common": 10, "matters": 500, "groups": 50, "group": 12}


def class_html(tally: Tally, *, names: bool = True) -> str:
    """The page. Without ``names`` it tells nothing of single learners, and may be shown to the class."""
    style, script = _source("class.css"), _source("class.js")
    when = [
        learner.mark.handed_in for learner in tally.learners if learner.mark.handed_in and learner.verdict
    ]
    waiting = tally.states[State.WAITS]
    return _template().render(
        tally=tally,
        scores=tally.scores,
        names=names,
        style=Markup(style),  # noqa: S704 - our own files
        script=Markup(script),  # noqa: S704
        policy=(
            f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        newest=f"{max(when):%Y-%m-%d %H:%M}" if when else "",
        total=len(tally.learners),
        waiting=waiting,
        glance=list(_glance(tally)),
        common=tally.common(LIMITS["common"]),
        matters=sorted(tally.matters, key=lambda matter: not matter.pressing),
        pressing=len({matter.learner for matter in tally.matters if matter.pressing}),
        anchors={exercise.name: f"exercise-{number}" for number, exercise in enumerate(tally.exercises, 1)},
        titles={exercise.name: exercise.title for exercise in tally.exercises},
        tried={exercise.name: exercise.attempted for exercise in tally.exercises},
    )


def _glance(tally: Tally) -> Iterator[str]:
    """What a teacher should know before anything else, in sentences."""
    pressing = len({matter.learner for matter in tally.matters if matter.pressing})
    if pressing:
        who = "1 submission has" if pressing == 1 else f"{pressing} submissions have"
        yield f"{who} no final score before a person has looked."
    if nothing := tally.states[State.NOTHING]:
        yield f"{nothing} of the gradebook's learners {'has' if nothing == 1 else 'have'} handed in nothing."
    judged = [exercise for exercise in tally.exercises if exercise.judged]
    for says, those in (
        ("Nobody has solved", [e for e in judged if not e.solved and e.attempted]),
        ("Nobody has tried", [e for e in judged if not e.attempted]),
        ("Everybody has solved", [e for e in judged if e.solved == e.judged]),
    ):
        if those:
            yield f"{says}: {', '.join(one_line(e.title, 80) for e in those)}."
    tried = [exercise for exercise in judged if exercise.attempted]
    if len(tried) > 1:
        hardest = min(tried, key=lambda exercise: exercise.solved / exercise.attempted)
        if 0 < hardest.solved < hardest.attempted:
            share = charts.percent(hardest.solved, hardest.attempted)
            yield f"The hardest exercise is “{one_line(hardest.title, 80)}”: {share} of those who tried have solved it."


def _inline(text: str) -> Markup:
    """A sentence, with code where it has backticks; no style of its own, which the page's policy would refuse."""
    pieces = re.split(r"`([^`\n]+)`", clean(text))
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(piece) if i % 2 else piece for i, piece in enumerate(pieces))


def _parts(exercise: ExerciseCount) -> dict[str, int]:
    return {name: getattr(exercise, name) for name in charts.PARTS}


def _state(learner: Learner) -> str:
    words = [learner.state.value]
    if learner.mark.penalty:
        words.append(f"late: −{points(learner.mark.penalty)}")
    words += ["by hand"] * bool(learner.mark.by_hand) + ["handed in anew"] * learner.anew
    return ", ".join(words)


def _given(learner: Learner, result: ExerciseResult) -> tuple[str, float]:
    """The points of an exercise as they are shown, and as they sort; where nobody has given any yet, there are none."""
    if result.outcome is Outcome.GRADER_ERROR and not learner.mark.by_hand:
        return "", -1.0
    score = learner.points.get(result.name, result.score)
    return points(score), score


def _results(learner: Learner) -> dict[str, ExerciseResult]:
    return {result.name: result for result in learner.verdict.exercises} if learner.verdict else {}


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.loader, environment.undefined = jinja2.PackageLoader("proctor"), jinja2.StrictUndefined
    environment.finalize = lambda value: clean(value) if type(value) is str else value
    environment.filters.update(
        points=points, line=one_line, inline=_inline, short=lambda text: one_line(text, 500)
    )
    environment.globals.update(
        charts=charts, likeness=likeness, percent=charts.percent, parts=_parts, state=_state
    )
    environment.globals.update(MARKS=MARKS, LIMITS=LIMITS, Outcome=Outcome, State=State)
    environment.globals.update(results=_results, given=_given)
    return environment


def _template() -> jinja2.Template:
    return _environment().get_template("class.html")


def _source(name: str) -> str:
    environment = _environment()
    return environment.loader.get_source(environment, name)[0] if environment.loader else ""
