"""Sphinx configuration."""

import os
from importlib.metadata import version as installed_version

project = "placeformer"
author = "placeformer developers"
copyright = "placeformer developers"
release = version = installed_version("placeformer")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"placeformer {release}"
html_theme_options = {"navigation_with_keys": False, "show_toc_level": 2}
html_show_sourcelink = False
# Only the API has sub-pages to list on the left.
html_sidebars = {
    page: []
    for page in (
        "index",
        "install",
        "concepts",
        "dataset",
        "design",
        "changelog",
        "contributing",
        "references",
    )
}
html_sidebars["data"] = []
html_sidebars["population"] = []
html_sidebars["lesions"] = []

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
sphinx_gallery_conf = {
    "examples_dirs": "../tutorials",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("placeformer",),
    "backreferences_dir": "generated/backreferences",
    "abort_on_example_error": True,
    "show_memory": False,
    "remove_config_comments": True,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The documentation builds without a network; PLACEFORMER_DOCS_INTERSPHINX=1 adds the links
# to the documentation of other projects, whose inventories have to be downloaded.
if os.environ.get("PLACEFORMER_DOCS_INTERSPHINX") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
    }
