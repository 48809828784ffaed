"""Metadata, requirements and the layout of the package; tools are configured in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "keras_resnet/__init__.py").read_text("utf-8"), re.MULTILINE)[1]

# Each lower bound is the version that the tests run on; each upper bound excludes the next release that may break by
# the project's own numbering. Nothing outside these ranges was tried.
REQUIREMENTS = [
    "keras>=3.15.1,<3.16",
    "numpy>=2.4,<3",
    "h5py>=3.14,<3.15",  # TensorFlow 2.21 asks for less than 3.15
    "tensorflow>=2.21,<2.22",
    "tensorboard>=2.21,<2.22",  # tf.summary, which writes logs/, lives there; TensorFlow 2.21 does not bring it along
    "tensorflow-datasets>=4.9.10,<5",
    "scikit-learn>=1.9,<2",  # holds the handwritten digits, the default data
    "pillow>=13,<14",
    "matplotlib>=3.11,<4",
    "tomli-w>=1.2,<2",
    "filelock>=3.12,<4",  # holds a run folder against other processes, on every system
]
# An extra whose command is not available yet stays empty: nothing is installed that nothing uses.
EXTRAS: dict[str, list[str]] = {
    "tune": ["keras-tuner>=1.4.8,<1.5"],
    "export": [],
    "report": [],
    "demo": [],
}
EXTRAS["all"] = [requirement for extra in EXTRAS.values() for requirement in extra]
EXTRAS["jax"] = ["jax>=0.10.2,<0.11"]
EXTRAS["torch"] = ["torch>=2.13,<2.14"]
EXTRAS["dev"] = [
    "pytest>=9.2,<10",
    "pytest-xdist>=3.8,<4",
    "ruff>=0.17.6,<0.18",
    "mypy>=2.4,<3",
    "build>=1.6,<2",
    "setuptools>=84,<85",  # builds the wheel that the packaging tests read, without a network
]

setup(
    name="keras-resnet-zoo",
    version=VERSION,
    description="Residual networks for Keras 3: get them, train them, tune them, ship them",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    # tuning/ lies at the top of the checkout and is imported as keras_resnet.tuning; keras_resnet/tuning is a link to
    # it, for a checkout that is not installed.
    packages=[
        *find_packages(
            include=["keras_resnet", "keras_resnet.*"], exclude=["keras_resnet.tuning", "keras_resnet.tuning.*"]
        ),
        "keras_resnet.tuning",
        *(f"keras_resnet.tuning.{name}" for name in find_packages("tuning")),
    ],
    py_modules=["keras_resnet_command"],
    package_dir={"keras_resnet": "keras_resnet", "keras_resnet.tuning": "tuning"},
    package_data={"keras_resnet": ["py.typed"], "keras_resnet.training": ["recipes/*.toml"]},
    entry_points={"console_scripts": ["keras-resnet = keras_resnet_command:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    keywords="keras resnet residual-network image-classification deep-learning",
)
