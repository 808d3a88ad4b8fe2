"""The directive ``changelog``: shows a changelog that is written in Markdown.

It knows what "Keep a Changelog" needs: headings, lists, links and inline code.
"""

import re
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

UNDERLINES = {2: "=", 3: "-", 4: "~"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("changelog", Changelog)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Changelog(SphinxDirective):
    """Insert the changelog whose path, relative to the page, is the argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse the converted text in the place of the directive."""
        _, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(path)
        text = to_rst(Path(path).read_text(encoding="utf-8"))
        lines = StringList(text.splitlines(), source=path)
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(lines, 0, section, match_titles=True)
        return section.children


def to_rst(markdown: str) -> str:
    """Convert the lines of a changelog; its title is the title of the page."""
    out: list[str] = []
    for line in markdown.splitlines():
        heading = re.match(r"(#+) +(.*)", line)
        if heading is None:
            out.append(inline(line))
        elif len(heading[1]) > 1:
            title = re.sub(r"\[([^\]]+)\]", r"\1", inline(heading[2]))
            out += [title, UNDERLINES[len(heading[1])] * len(title)]
    return "\n".join(out)


def inline(line: str) -> str:
    """Convert inline code and links."""
    line = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line)
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", line)
