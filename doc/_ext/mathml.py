"""Render formulas as MathML, which browsers show by themselves.

Nothing is fetched when a page is read, so the documentation is complete without a
network.
"""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline, None), block_renderers=(block, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(converted(node, as_block=False))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own."""
    opening = translator.starttag(node, "div", CLASS="math")
    translator.body.append(f"{opening}{converted(node, as_block=True)}</div>\n")
    raise nodes.SkipNode


def converted(node: nodes.math | nodes.math_block, *, as_block: bool) -> str:
    """Return the MathML of a formula; warn about what cannot be converted."""
    text = node.astext().replace("\n", " ")
    # What docutils does not know: large brackets without a side, arguments without
    # braces, the space around a logarithm.
    text = re.sub(r"\\([bB]igg?)(?![A-Za-z])", r"\\\1l", text)
    text = re.sub(r"(\\[td]?frac)\s*(\d)(\d)", r"\1{\2}{\3}", text)
    text = re.sub(r"\\log\s+(?=\\mathrm|[a-zA-Z(])", r"\\,\\log\\, ", text)
    try:
        return tex2mathml(text, as_block=as_block)
    except MathError as error:
        logger.warning("formula: %s", error, location=node)
        return ""
