"""Sphinx configuration."""

import os
import sys
import tomllib
from importlib.metadata import version as installed_version
from pathlib import Path

import ziamath

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "placeformer"
author = "placeformer developers"
copyright = "placeformer developers"
release = version = installed_version("placeformer")
# pyproject.toml lists the URLs of the project. If there is a Repository among them, pages get an
# icon that links to it; if it is on GitHub, tutorials get buttons for Binder.
with (Path(__file__).parents[1] / "pyproject.toml").open("rb") as file:
    urls = tomllib.load(file)["project"]["urls"]
repository = urls.get("Repository", "")

extensions = [
    "api_pages",
    "command_line",
    "consolidation_pages",
    "example_report",
    "mathml",
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "navigation_networks",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "zoo_pages",
    "zoo_table",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"placeformer {release}"
html_logo = html_favicon = "_static/logo.svg"
html_theme_options = {
    "header_links_before_dropdown": 6,
    "icon_links": [{"name": "Code and issues", "url": repository, "icon": "fa-brands fa-github"}]
    if repository
    else [],
    "logo": {"text": "placeformer"},
    "navigation_with_keys": False,
    "show_toc_level": 2,
}
html_show_sourcelink = False
# Formulas are MathML; a font is included for readers whose system has none for formulas.
font = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
html_static_path = ["_static", str(font)]
html_css_files = ["placeformer.css"]
html_math_renderer = "mathml"
# Pages without a sidebar on the left, which would be empty.
alone = """index install zoo comparison faq glossary help citing design changelog contributing
references"""
html_sidebars = {page: [] for page in alone.split()}

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
sphinx_gallery_conf = {
    "examples_dirs": "../tutorials",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"/\d\d_",
    "ignore_repr_types": r"matplotlib\.(legend|text|collections|lines)",
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("placeformer",),
    "backreferences_dir": "generated/backreferences",
    "abort_on_example_error": True,
    "show_memory": False,
    "write_computation_times": False,
    "remove_config_comments": True,
}
if repository.startswith("https://github.com/"):
    requirements = Path(__file__).parent / "generated" / "binder" / "requirements.txt"
    requirements.parent.mkdir(parents=True, exist_ok=True)
    package = f"placeformer[nwb,pynapple,zarr] @ git+{repository}"
    requirements.write_text(f"{package}\n", encoding="utf-8")
    # Notebooks start with the command that installs placeformer on Colab.
    sphinx_gallery_conf["first_notebook_cell"] = f"# On Colab:\n# %pip install '{package}'"
    org, repo = repository.removeprefix("https://github.com/").strip("/").split("/")
    sphinx_gallery_conf["binder"] = {
        "org": org,
        "repo": repo,
        "branch": "gh-pages",
        "binderhub_url": "https://mybinder.org",
        "dependencies": str(requirements),
        "use_jupyter_lab": True,
    }
plot_formats = [("png", 160)]
plot_html_show_formats = False
plot_html_show_source_link = False
# Every reference has to resolve; references to other projects need their inventories (see below).
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(matplotlib|numpy|pandas|sklearn|torch|xarray)\..*")]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The documentation builds without a network connection; PLACEFORMER_DOCS_INTERSPHINX=1 adds links
# to the documentation of other projects, whose inventories have to be downloaded.
if os.environ.get("PLACEFORMER_DOCS_INTERSPHINX") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
    }
