"""Configuration of the documentation."""

import sys
from pathlib import Path

import skdistill

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "skdistill"
author = "skdistill developers"
project_copyright = "2026, skdistill developers"
version = release = skdistill.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "changelog",
    "mathml",
    "own_members",
]
exclude_patterns = ["_build", "_ext", "_inventories", "_templates", "generated/*.py"]
templates_path = ["_templates"]
default_role = "literal"
nitpicky = True

# -- API ----------------------------------------------------------------------------

autosummary_generate = True
autodoc_typehints = "none"  # the types are in the docstrings
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_show_inherited_class_members = False

# -- objects of other projects: small committed inventories -------------------------
# `python doc/_inventories/make.py` writes them; nothing is fetched.

_INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "sklearn": "https://scikit-learn.org/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
}
intersphinx_mapping = {
    name: (uri, str(HERE / "_inventories" / f"{name}.inv"))
    for name, uri in _INVENTORIES.items()
}

# -- gallery ------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"^_",  # shared by the examples
    "nested_sections": False,
    "doc_module": ("skdistill",),
    "reference_url": {"skdistill": None},
    "abort_on_example_error": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}

# -- HTML ---------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"skdistill {release}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_math_renderer = "mathml"
# Pages that stand alone or are wide have no list of their neighbours.
_ALONE = ("index", "install", "formulas", "changelog", "auto_examples/**")
html_sidebars = {name: [] for name in _ALONE}
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {
        name: ["page-toc"] for name in ("api", "changelog", "generated/*", "guide/*")
    },
}
