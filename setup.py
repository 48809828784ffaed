"""Metadata, requirements and the layout of the package; tools are configured in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "keras_resnet/__init__.py").read_text("utf-8"), re.MULTILINE)[1]

# Each lower bound is the oldest version that the tests ran on (`make test-oldest` installs exactly these); each upper
# bound excludes the next release that may break by the project's own numbering. docs/install.md has what was run.
REQUIREMENTS = [
    "keras>=3.12,<3.16",
    "numpy>=2.0,<3",
    "h5py>=3.11,<4",
    "tensorflow>=2.19,<2.22",
    "tensorboard>=2.19,<2.22",  # tf.summary, which writes logs/, and keras-tuner need it; TensorFlow 2.21 lacks it
    "tensorflow-datasets>=4.9.10,<5",
    "keras-tuner>=1.4.8,<1.5",
    "scikit-learn>=1.5,<2",  # holds the handwritten digits, the default data
    "scipy>=1.13,<2",
    "pillow>=11.0,<14",
    "matplotlib>=3.9,<4",
    "tomli-w>=1.1,<2",
    "safetensors>=0.5,<1",  # files of weights
    "filelock>=3.12,<5",  # holds a run folder against other processes, on every system
]
EXTRAS: dict[str, list[str]] = {
    "export": [
        "onnx>=1.23,<2",
        "onnxruntime>=1.31,<2",
        "tf2onnx>=1.17,<2",
        "openvino>=2026.4,<2027",
        "nncf>=3.4,<4",  # int8 for OpenVINO
        "ai-edge-litert>=2.3,<3",
    ],
    "report": [],  # pages need nothing that the main jobs do not; the name stays, for scripts that ask for it
    "demo": ["starlette>=1.0,<2", "uvicorn>=0.40,<1"],
    "hf": ["pyarrow>=21,<27"],  # reads parquet
    "hub": ["huggingface-hub>=2.0,<3"],  # `publish`: the card, and repositories
    "mlflow": ["mlflow-skinny>=3.5,<4"],  # the client; a server is `pip install mlflow`
    "wandb": ["wandb>=0.31,<1"],
    "inspect": ["imagehash>=4.3,<5"],  # near copies
    "medical": ["pydicom>=3,<4", "nibabel>=5.3,<6"],  # DICOM and NIfTI in tables
    "audio": ["soundfile>=0.13,<1"],  # sound in tables
    "ray": ["ray>=2.60,<3"],  # searches and trainings on a cluster
}
EXTRAS["all"] = [requirement for extra in EXTRAS.values() for requirement in extra]
EXTRAS["trackio"] = ["trackio>=0.43,<1"]  # not in "all": it holds Pillow below 13
EXTRAS["docs"] = ["sphinx>=9.0,<10", "myst-parser>=5.2,<6", "furo>=2025.12.19,<2027"]  # the site
EXTRAS["jax"] = ["jax>=0.10.2,<0.11"]
EXTRAS["torch"] = ["torch>=2.13,<2.14"]
EXTRAS["dev"] = [
    "pytest>=9.2,<10",
    "pytest-xdist>=3.8,<4",
    "ruff>=0.17.6,<0.18",
    "mypy>=2.4,<3",
    "build>=1.6,<2",
    *("sqlalchemy>=2,<3", "alembic>=1.18,<2", "pandas>=3,<4"),  # MLflow's store and its models, for the tests
    "selenium>=4.40,<5",  # drives a browser, where there is one, through the pages of `report`
    "kubernetes-validate>=1.37,<2",  # the schema of the manifest in examples/
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
    package_data={
        "keras_resnet": ["py.typed"],
        "keras_resnet.weights": ["*.csv", "*.txt", "*.safetensors", "*.md"],
        "keras_resnet.training": ["recipes/*.toml"],
        "keras_resnet.tuning": ["spaces/*.toml"],
    },
    entry_points={"console_scripts": ["keras-resnet = keras_resnet_command:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    keywords="keras resnet residual-network image-classification deep-learning",
)
