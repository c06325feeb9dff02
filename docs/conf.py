"""How Sphinx builds these pages: `make docs`."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import sepkit

HERE = Path(__file__).parent
NOTEBOOK = "sepkit_demo.ipynb"

project = "sepkit"
author = "the sepkit authors"
copyright = author  # noqa: A001
release = version = sepkit.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "tables"]  # which pages include
default_role = "code"  # of single backticks in docstrings
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!sepkit).*")]  # what belongs to Python, torch, numpy or matplotlib

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# The notebook is committed without outputs; it is run here, shortened by SEPKIT_DEMO_SCALE, once for each content.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "jupyter_cache")
nb_execution_timeout = 600
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # fields are described with their class, once
napoleon_custom_sections = [("Source", "returns_style")]

html_theme = "furo"
html_title = f"sepkit {release}"
html_static_path = [
    "_static",
    str(Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax" / "tex-svg.js"),
]
html_css_files = ["sepkit.css"]
mathjax_path = "tex-svg.js"  # no page needs the network
html_show_sourcelink = False
html_theme_options = {"source_repository": "", "navigation_with_keys": True}


def escape_bars(app, what, name, obj, options, lines) -> None:  # noqa: ARG001
    """Let a bar in a docstring be an absolute value, not a substitution of reStructuredText."""
    lines[:] = [re.sub(r"\|", r"\\|", line) for line in lines]


def setup(app) -> None:
    """Bring the notebook to where Sphinx looks for pages."""
    app.connect("autodoc-process-docstring", escape_bars)
    shutil.copyfile(HERE.parent / "notebooks" / NOTEBOOK, HERE / "guides" / NOTEBOOK)
