"""The card of a published run, as the Hugging Face Hub reads it: facts of the run alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet.tasks import TASKS
from keras_resnet.training import Recipe, Run, compare_recipes, list_recipes

# Task -> what the Hub calls it; it has no word for regressions of pictures.
PIPELINES = {"classification": "image-classification", "ordinal": "image-classification"}
# Tags of figures on the Hub, where ours have others.
METRICS = {"macro_f1": "f1"}


def split_of(facts: Mapping[str, Any]) -> str:
    """Returns the split whose scores the card shows: the test split where there is one."""
    return next(name for name in ("test", "validation") if name in facts["scores"])


def with_interval(figures: Mapping[str, Any], name: str) -> str:
    """Returns a figure with its 95 % interval: "0.861 ± 0.007", or "1.00 (0.74 to 1.00)" where it is not symmetric."""
    value, interval = figures[name], figures.get(f"{name}_interval")
    if interval is None:
        return f"{value:.4g}"
    low, high = interval
    half = (high - low) / 2
    digits = max(1, min(6, 1 - math.floor(math.log10(half)))) if half > 0 else 4
    if abs(value - (low + high) / 2) > 0.2 * half:
        return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f} ± {half:.{digits}f}"


def card(run: Run, facts: Mapping[str, Any], repository: str | None, pictures: Sequence[str]) -> str:
    """Returns the text of README.md.

    Args:
        run: that is published.
        facts: of the manifest.
        repository: "hf://ORG/NAME"; None for a folder.
        pictures: names of image files beside the card.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    split = split_of(facts)
    figures = facts["scores"][split]
    main = TASKS[facts["task"]].paired[0]
    pipeline = PIPELINES.get(facts["task"]) if len(run.about.image_shape) == 3 else None
    name = repository.rpartition("/")[2] if repository else f"{facts['model']}-{run.path.name}"
    results = [
        EvalResult(
            task_type=pipeline or facts["task"],
            dataset_type=facts["data"].partition(":")[0],
            dataset_name=facts["data"],
            dataset_split=split,
            metric_type=METRICS.get(main, main),
            metric_value=with_interval(figures, main),
            metric_name=f"{main}, 95 % interval",
        )
    ]
    data = ModelCardData(
        license=facts["license"],
        library_name="timm" if facts["architecture"] else "keras",
        pipeline_tag=pipeline,
        base_model=facts["base_model"],
        metrics=[METRICS.get(main, main)],
        tags=["keras", "resnet", "keras_resnet"],
        model_name=name,
        eval_results=results,
    )
    sections = [
        f"# {name}",
        _summary(run, facts, split, figures, main),
        _use(facts, repository or "FOLDER"),
        _scores(figures, split),
        _per_class(figures),
        *(f"![{name}]({name})" for name in pictures),
        _training(run, facts),
        _readers(facts),
        _limits(figures),
    ]
    body = "\n\n".join(section for section in sections if section)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def _summary(run: Run, facts: Mapping[str, Any], split: str, figures: Mapping[str, Any], main: str) -> str:
    sizes = ", ".join(f"{size:,} {name}" for name, size in facts["sizes"].items())
    classes = f" It knows {len(facts['classes'])} classes: {_list(facts['classes'])}." if facts["classes"] else ""
    return (
        f"A {facts['model']} ({facts['parameters']:,} parameters, input {run.about.input_shape}) for {facts['task']}, "
        f"trained on {facts['data']} ({sizes} examples) by keras_resnet {facts['keras_resnet']}. Its {main} on the "
        f"{figures['examples']:,} examples of the {split} split is {with_interval(figures, main)}.{classes}"
    )


def _list(names: Any, shown: int = 20) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _use(facts: Mapping[str, Any], where: str) -> str:
    blocks = [
        f"from keras_resnet import evaluation\n\nmodel = evaluation.load_model({where!r})",
        f"keras-resnet predict {where} picture.jpg",
    ]
    timm_name = where.replace("hf://", "hf-hub:") if where.startswith("hf://") else f"local-dir:{where}"
    if facts["architecture"]:
        blocks.append(f"import timm\n\nmodel = timm.create_model({timm_name!r}, pretrained=True)")
    lines = ["## Use", "", "```python", blocks[0], "```", "", "```sh", blocks[1], "```"]
    for block in blocks[2:]:
        lines += ["", "```python", block, "```"]
    return "\n".join(lines)


def _scores(figures: Mapping[str, Any], split: str) -> str:
    names = [name for name, value in figures.items() if isinstance(value, float) and not name.endswith("_interval")]
    rows = [f"| {name} | {with_interval(figures, name)} |" for name in names]
    return "\n".join([f"## Scores on the {split} split", "", "| figure | value |", "| --- | ---: |", *rows])


def _per_class(figures: Mapping[str, Any]) -> str:
    per_class = figures.get("per_class")
    if not per_class:
        return ""
    columns = [name for name in per_class[0] if name != "name"]
    rows = [
        f"| {values['name']} | " + " | ".join(_cell(values[column]) for column in columns) + " |"
        for values in per_class
    ]
    head = "| class | " + " | ".join(columns) + " |"
    return "\n".join(["## Each class", "", head, "| --- |" + " ---: |" * len(columns), *rows])


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _training(run: Run, facts: Mapping[str, Any]) -> str:
    recipe = run.recipe
    base = Recipe.load(recipe.name) if recipe.name in list_recipes() else Recipe()
    changed = [f"`{name} = {after}`" for name, _, after in compare_recipes(base, recipe) if name != "data.split_seed"]
    seconds = sum(sum(values) for name, values in run.history.items() if name == "epoch_seconds")
    lines = [
        f"- recipe `{recipe.name}`, changed: {', '.join(changed) or 'nothing'} (whole in `recipe.toml`)",
        f"- {facts['epochs']} epochs, seed {recipe.train.seed}" + (f", {seconds / 60:.1f} minutes" if seconds else ""),
        f"- begun with: {facts['base_weights'] or 'random weights'}",
        f"- data fingerprint `{facts['fingerprint']}`",
        f"- {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}",
    ]
    return "\n".join(["## Training", "", *lines])


def _readers(facts: Mapping[str, Any]) -> str:
    rows = [
        f"| {name} | {values['version']} | {values['difference']:.1e} |" for name, values in facts["readers"].items()
    ]
    rows += [f"| {name} | not tried | {reason} |" for name, reason in facts["not_read_by"].items()]
    note = "Logits of eight pictures, beside those of the trained network; difference as a share of the largest."
    return "\n".join(["## Read by", "", note, "", "| library | version | difference |", "| --- | --- | --- |", *rows])


def _limits(figures: Mapping[str, Any]) -> str:
    return (
        f"## Limits\n\nThe scores are of {figures['examples']:,} examples that come from the same source as the "
        "training examples, and their intervals are of the sampling of these. Nothing was measured on other data. "
        "`keras-resnet verify FOLDER --data SPEC` scores other data and says whether the figure holds."
    )
