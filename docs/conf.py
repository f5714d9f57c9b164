"""How Sphinx builds the site; `docs/build_site.py` calls it on copies of the pages."""

from e2vsearch._version import __version__

project = "e2vsearch"
author = "The e2vsearch authors"
project_copyright = "The e2vsearch authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

highlight_language = "text"  # of literal blocks in docstrings, which draw folders and files
default_role = "py:obj"  # a name in backticks in a docstring is a link where there is such an object, else code
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"  # collections and facets are opened, results returned: none is constructed
autodoc_default_options = {"exclude-members": "__init__, __new__"}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

smartquotes = False  # two hyphens begin an option

html_theme = "furo"
html_title = "e2vsearch"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = True  # llms.txt lists the pages' Markdown
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
