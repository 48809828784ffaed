"""The commands that make a model smaller, write it for other programs, publish it and serve it.

Nothing is imported at the top that loads Keras: `keras-resnet --help` reads this file.
"""

import argparse
import dataclasses
import json
import shlex

from keras_resnet.cli.options import (
    BATCH_SIZE,
    DATA_DIR,
    FORMATS,
    JSON,
    OTHER_DATA,
    SPEC,
    TASK,
    TRACKERS,
    TRAINED,
    TTA,
    command,
    given,
    option,
)


@command(
    "export",
    "write a model for serving, and check it",
    TRAINED,
    option("--format", choices=FORMATS, required=True, help="to write"),
    option("--quantize", choices=["int8", "int8-all", "float16"], help="store numbers in fewer bits"),
    option("--calibration", metavar="SPEC", help="the data that int8 is calibrated on"),
    DATA_DIR,
    option("--out", metavar="PATH", required=True, help="the file or folder to make"),
    option("--model-version", type=int, metavar="N", help="of a SavedModel: write OUT/N beside the others"),
    TASK,
    examples=("runs/photos --format savedmodel --out served", "runs/photos --format onnx --out net.onnx"),
)
def export(options: argparse.Namespace) -> None:
    """Writes a model for serving."""
    from keras_resnet.export import export as write

    print(
        write(
            options.trained,
            format=options.format,
            out=options.out,
            quantize=options.quantize,
            calibration=options.calibration,
            data_dir=options.data_dir,
            task=options.task,
            model_version=options.model_version,
        )
    )


@command(
    "convert",
    "weights of other libraries into our own file, or ours into one that timm loads",
    option("source", metavar="SOURCE", help="a run folder or a file: .safetensors, .pth, .h5, .keras"),
    option("--model", metavar="NAME", help="a name that `list` prints; a run folder knows its own"),
    option("--out", metavar="FILE.safetensors", required=True, help="the file to make"),
    option("--names", choices=["keras_resnet", "timm"], default="keras_resnet", help="default: %(default)s"),
    examples=("net.pth --model resnet50 --out net.safetensors", "runs/photos --names timm --out net.safetensors"),
)
def convert(options: argparse.Namespace) -> None:
    """Writes weights of another library as ours, or ours as timm's."""
    from keras_resnet.evaluation.predictor import convert as write

    print(write(options.source, options.out, model=options.model, names=options.names))


@command(
    "prune",
    "a smaller network, without the channels that matter least; to be trained again",
    TRAINED,
    option("--macs", type=float, default=0.5, metavar="S", help="multiply-adds that stay (default: 0.5)"),
    option("--by", choices=["norm", "taylor"], help="size of filters, or change of the loss (default with data)"),
    OTHER_DATA,
    DATA_DIR,
    option("--multiple", type=int, default=4, metavar="N", help="of channels (default: %(default)s)"),
    option("--out", metavar="FILE.keras", required=True, help="the pruned network"),
    JSON,
    examples=("runs/photos --out small.keras", "resnet18:cifar10 --macs 0.7 --data photos/ --out small.keras"),
)
def prune(options: argparse.Namespace) -> None:
    """Writes a network without some of its channels."""
    from keras_resnet import evaluation

    words = given(options, "data", "data_dir", "macs", "by", "multiple")
    done = evaluation.prune(options.trained, options.out, **words)
    if options.json:
        print(json.dumps({**dataclasses.asdict(done), "path": str(done.path)}))
        return
    print(done)
    train = f"keras-resnet train --model {done.model or 'MODEL'} --weights {shlex.quote(str(done.path))}"
    teacher = f"--set distill.teacher={shlex.quote(options.trained)}"
    print(f"next:\n  {train} {teacher} --data DATA --recipe RECIPE --out RUN")


@command(
    "shrink",
    "a run made smaller for as long as it stays as good: pruned, distilled, stored in 8 bits",
    option("run", metavar="RUN", help="a finished run folder; its data must be there"),
    option("--macs", type=float, default=0.25, metavar="S", help="multiply-adds to come to (default: 0.25)"),
    option("--max-loss", type=float, default=0.005, metavar="L", help="of the figure (default: %(default)s)"),
    option("--epochs", type=int, metavar="N", help="of each step (default: a quarter of the run's)"),
    option("--multiple", type=int, default=4, metavar="N", help="of channels (default: %(default)s)"),
    option("--format", choices=FORMATS, help="of the file in 8 bits (default: the first that is installed)"),
    option("--out", metavar="DIR", required=True, help="for the steps; the same one goes on"),
    JSON,
    examples=("runs/photos --out small", "runs/photos --macs 0.1 --max-loss 0.01 --format onnx --out small"),
)
def shrink(options: argparse.Namespace) -> None:
    """Makes a run smaller step by step."""
    from keras_resnet.shrink import shrink as make_smaller

    words = given(options, "macs", "max_loss", "epochs", "multiple", "format")
    done = make_smaller(options.run, options.out, verbose=0 if options.json else "auto", **words)
    print(json.dumps([dataclasses.asdict(step) for step in done.steps]) if options.json else done)


@command(
    "average",
    "one model that answers with the mean of several",
    option("models", metavar="RUN|MODEL", nargs="+", help="run folders or .keras files that answer alike"),
    TTA,
    option("--out", metavar="FILE.keras", required=True, help="the file to make"),
    examples=("runs/one runs/other --out mean.keras", "runs/one --tta flip --out views.keras"),
)
def average(options: argparse.Namespace) -> None:
    """Writes one model that answers with the mean of several."""
    from keras_resnet import evaluation

    evaluation.average_models(options.models, options.tta, options.out)
    print(options.out)


@command(
    "publish",
    "a folder, or a repository of the Hub, that timm, transformers, KerasHub and Keras read",
    option("run", metavar="RUN", help="a finished run folder"),
    option("--to", metavar="folder:DIR|hf://ORG/NAME", required=True, help="the folder, or the repository"),
    option("--license", metavar="NAME", help="such as apache-2.0 (default: that of the first weights)"),
    option("--private", action="store_true", help="a new repository is private"),
    option("--mistakes", action="store_true", help="show the most confident errors: pictures of your data"),
    option("--dry-run", action="store_true", help="write and check in a temporary folder, publish nothing"),
    examples=("runs/photos --to folder:published", "runs/photos --to hf://me/flowers --license apache-2.0"),
)
def publish(options: argparse.Namespace) -> None:
    """Prints what was written, and which libraries read it."""
    from keras_resnet.publishing import publish

    words = {name: getattr(options, name) for name in ("license", "private", "dry_run", "mistakes")}
    print(publish(options.run, options.to, **words))


@command(
    "verify",
    "whether a published folder is whole, and the figure on its card holds for data",
    option("folder", metavar="FOLDER|hf://ORG/NAME", help="what `publish` wrote"),
    option("--data", metavar="SPEC", required=True, help=f"the data: {SPEC}"),
    DATA_DIR,
    examples=("published --data photos/", "hf://me/flowers --data photos/"),
)
def verify(options: argparse.Namespace) -> int:
    """Prints whether the published figure holds; the status is that of a mistake where it does not."""
    from keras_resnet.cli import USERS_MISTAKE
    from keras_resnet.publishing import verify

    verification = verify(options.folder, options.data, data_dir=options.data_dir)
    print(verification)
    return 0 if verification.holds else USERS_MISTAKE


@command(
    "track",
    "send a run, a search or a cross-validation to a tracking server; as often as you like, each figure once",
    option("folder", metavar="RUN|FOLDS|SEARCH", help="the folder, finished or not"),
    option(
        "--to",
        choices=TRACKERS,
        default="mlflow",
        help="its own variables, as MLFLOW_TRACKING_URI, say where (default: %(default)s)",
    ),
    examples=("runs/photos", "searches/photos --to mlflow"),
)
def track(options: argparse.Namespace) -> None:
    """Prints the id of the run on the server."""
    from keras_resnet.tracking import track

    print(f"run {track(options.folder, options.to)}")


@command(
    "demo",
    "a page on this machine where one drops an image and sees its classes",
    TRAINED,
    option("--port", type=int, default=8000, metavar="N", help="of 127.0.0.1 (default: %(default)s)"),
    TASK,
    examples=("runs/photos", "resnet18:cifar10 --port 8001"),
)
def demo(options: argparse.Namespace) -> None:
    """Serves a page until Ctrl-C."""
    from keras_resnet.demo import serve

    serve(options.trained, options.port, options.task)


@command(
    "benchmark",
    "images per second on this machine, and the share of its matrix speed",
    option("--model", metavar="NAME", help="a name that `list` prints"),
    option("--input-size", type=int, metavar="N", help="side of the image in pixels"),
    BATCH_SIZE,
    option("--mode", choices=["train", "infer", "data"], help="what to time"),
    JSON,
    examples=("--model resnet50 --mode infer", "--model resnet18 --input-size 32 --mode train"),
)
def benchmark(options: argparse.Namespace) -> None:
    """Prints how fast this machine is."""
    import dataclasses

    from keras_resnet.benchmark import benchmark as measured

    figures = measured(**given(options, "model", "mode", "input_size", "batch_size"))
    print(json.dumps(dataclasses.asdict(figures)) if options.json else figures)
