"""The configuration of Sphinx. `hatch run docs:build` builds the site."""

import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

project = "optx"
copyright = "the optx authors, Apache-2.0"
extensions = ["myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_build", "_ext"]
nitpicky = True
smartquotes = False
add_module_names = False
python_maximum_signature_line_length = 88
toc_object_entries = False
html_theme = "furo"
html_title = "optx"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
html_use_index = True
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
pygments_style = "friendly"
pygments_dark_style = "monokai"
