"""How Sphinx makes the site (`make docs`): these pages, the recipes' files, and a reference from the docstrings."""

import inspect
import os
import pathlib

from sphinx.util.inspect import stringify_signature

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_resnet  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]
PARTS = {
    "Start": ["docs/install", "docs/first-model", "docs/coming-from", "docs/how-to"],
    "Guides": [
        *("docs/models", "docs/data", "docs/training", "docs/fine-tuning", "docs/tuning", "docs/evaluation"),
        *("docs/explain", "docs/export", "docs/publishing", "docs/distributed", "docs/weights"),
    ],
    "Reference": [
        *("docs/command-line", "docs/recipes", "docs/api/README"),
        *(f"keras_resnet/weights/{path.stem}" for path in sorted((ROOT / "keras_resnet" / "weights").glob("*.md"))),
        "CHANGELOG",
    ],
    "Background": ["docs/architecture", "docs/reliability", "docs/performance", "CONTRIBUTING", "docs/README"],
}
RECIPES = "keras_resnet/training/recipes"

project, author, release = "keras_resnet", "the keras_resnet authors", keras_resnet.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**.md", "keras_resnet/weights/*.md"]
html_theme, html_title = "furo", f"keras_resnet {release}"
html_copy_source, html_sourcelink_suffix = True, ""
myst_heading_anchors = 3
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_custom_sections = [(title, "notes_style") for title in ("Source", "Input shape", "Output shape")]
napoleon_use_rtype = napoleon_use_param = False
# What stands in signatures and has no page here: types of other libraries, and of objects that nobody makes by hand.
OTHERS = "numpy|np|os|pathlib|collections|contextlib|keras|keras_tuner|tensorflow|typing|types|argparse"
nitpick_ignore_regex = [("py:.*", rf"({OTHERS})\b.*"), ("py:class", r"keras_resnet\.\w+\.\w+\.\w+(\.\w+)*")]


def add_to_page(app, name, source):
    """Adds to pages what GitHub would show as code: the contents of the sidebar, and the recipes' files."""
    if name == root_doc:
        for title, pages in PARTS.items():
            source[0] += "\n```{toctree}\n:hidden:\n:caption: " + title + "\n\n" + "\n".join(pages) + "\n```\n"
    elif name == "docs/api/README":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\nkeras_resnet*\n```\n"
    elif name == "docs/recipes":
        source[0] += "\n## The files\n"
        for path in sorted((ROOT / RECIPES).glob("*.toml")):
            source[0] += f"\n### {path.stem}\n\n```{{literalinclude}} /{RECIPES}/{path.name}\n:language: toml\n```\n"


def leaves_out(app, what, name, value, skip, options):
    """Returns whether a name has no place in the reference, as those that a module imports for itself."""
    return skip or not (getattr(value, "__module__", None) or "keras_resnet").startswith("keras_resnet")


def show_arguments(app, what, name, value, options, signature, returns):
    """Returns the arguments of a Keras layer or callback, which Keras hides behind `*args, **kwargs`."""
    if what == "class" and signature == "(*args, **kwargs)":
        arguments = list(inspect.signature(value.__init__).parameters.values())[1:]
        return stringify_signature(inspect.Signature(arguments), short_literals=True, unqualified_typehints=True), None
    return None


def add_indexes(app, exception):
    """Writes the page that a browser opens first, and llms.txt: the Markdown of every page, for programs."""
    if exception is None and app.builder.name == "html":
        out = pathlib.Path(app.outdir)
        (out / "index.html").write_text((out / f"{root_doc}.html").read_text("utf-8"), "utf-8")
        titles = app.env.titles
        lines = [f"- [{titles[name].astext()}](_sources/{name}.md)" for part in PARTS.values() for name in part]
        (out / "llms.txt").write_text("\n".join([f"# {project}\n", *lines, ""]), "utf-8")


def setup(app):
    """Connects this file to Sphinx."""
    app.connect("source-read", add_to_page)
    app.connect("autodoc-skip-member", leaves_out)
    app.connect("autodoc-process-signature", show_arguments)
    app.connect("build-finished", add_indexes)
