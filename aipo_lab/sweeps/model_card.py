"""The card of an exported model: how to load it, how it was trained, what it scored, and what it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aipo_lab.core.numbers import value_text
from aipo_lab.core.store import Artifact
from aipo_lab.core.yaml_text import dump_yaml
from aipo_lab.results.rows import ResultRow
from aipo_lab.sweeps.collect import find_artifact
from aipo_lab.sweeps.export_folder import table, write_card
from aipo_lab.sweeps.licence import licence_files, licence_name
from aipo_lab.sweeps.points import Point

LOADING = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this/folder")
model = AutoModelForCausalLM.from_pretrained("this/folder")
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "…"}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
answer = model.generate(**prompt, max_new_tokens=256)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))
```

In aipo-lab the folder is a model like any other: `aipo-lab chat this/folder`, `--set model.source=this/folder`."""


def write_model_card(folder: Path, point: Point) -> None:
    """Write README.md into `folder`, whose other files are there already."""
    licence, objective = licence_name(point), point.trial.objective
    header: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["aipo-lab", "preference-optimization", *([objective] if point.t else [])],
    }
    if licence is not None:
        header["license"] = licence
    if (hub_id := _hub_id(point)) is not None:
        header["base_model"] = hub_id
    about = {"sweep": point.sweep.name, "trial": point.trial.name, "iteration": point.t, "checkpoint": point.checkpoint}
    sections = {
        "How to load": LOADING + _date_note(point, folder),
        "Data": _data(point),
        "How it was trained": _training(point),
        "Results": results_section(point),
        "Recipe": f"```yaml\n{dump_yaml(shown_recipe(point))}```",
        "Made from": _origins(point),
        "Licence": _licence(point, licence),
    }
    body = [f"# {point.name} of {point.sweep.name}", _summary(point)]
    body += [f"## {title}\n\n{text}" for title, text in sections.items()]
    write_card(folder, header, about, "\n\n".join(body))


def shown_recipe(point: Point) -> dict[str, Any]:
    """The recipe without how it was computed, where files lay on this machine and how the judge is reached."""
    values = point.trial.recipe.resolved()
    values.pop("compute")
    values["benchmarks"].pop("judge", None)
    values["model"]["source"] = base_name(point)
    for section in (values["prompts"], values.get("pairs") or {}):
        if isinstance(section.get("path"), str):
            section["path"] = Path(section["path"]).name
    return values


def base_name(point: Point) -> str:
    """What the base model is called: as on the hub or among the assets, of a folder its name without the path to it."""
    source = point.trial.recipe.model.source
    return _hub_id(point) or (point.base_model.folder.name if "/" in source and point.base_model.folder else source)


def _hub_id(point: Point) -> str | None:
    """The base model's name on the hub, if it came from there into the hub's cache."""
    source, folder = point.trial.recipe.model.source, point.base_model.folder
    return source if folder is not None and f"models--{source.replace('/', '--')}" in folder.parts else None


def _summary(point: Point) -> str:
    if point.t == 0:
        return f"The base model {base_name(point)}, before any training, as aipo-lab spoke to it."
    last = point.trial.recipe.iterations
    return (
        f"{base_name(point)} after {point.t} of {last} iterations of preference optimisation with the objective "
        f"`{point.trial.objective}`, made by aipo-lab."
    )


def _date_note(point: Point, folder: Path) -> str:
    path = folder / "chat_template.jinja"
    template = path.read_text(encoding="utf-8") if path.is_file() else ""
    if "strftime_now" not in template and "date_string" not in template:
        return ""
    day = point.trial.recipe.model.template_date
    return f"\n\nIts chat template speaks of the present day; in training and evaluation that was {day}."


def _data(point: Point) -> str:
    recipe = point.trial.recipe
    if recipe.pairs is not None:
        return "Pairs that were given, not written by the policy: see `pairs` in the recipe below."
    prompts = "prompts of the pool" if recipe.instruct.source == "pool" else "instructions that the policy wrote itself"
    return (
        f"Every iteration takes up to {recipe.instruct.n_prompts} {prompts} (pool: `{recipe.prompts.source}`), samples "
        f"{recipe.respond.n_candidates} responses to each at temperature {recipe.respond.sampling.temperature:g}, "
        f"ranks them with `{recipe.rank.ranker}` and keeps the best against the worst. All settings are in the recipe "
        "below; `aipo-lab export TRIAL@ITERATION DIR --pairs` writes the pairs."
    )


def _training(point: Point) -> str:
    trainings = list(_trainings(point))
    if not trainings:
        return "It was not: this is the base model."
    rows = []
    for artifact in trainings:
        config, summary = artifact.manifest["config"], artifact.summary
        objective = config["objective"]
        given = objective["hyperparameters"].items()
        values = ", ".join(f"{name.rstrip('_')} {value_text(one)}" for name, one in given)
        left_out = sum(summary["excluded"].values())
        rows.append(
            (
                artifact.key[:12],
                f"{objective['name']} ({values})",
                f"{summary['pairs']}{f' ({left_out} too long)' if left_out else ''}",
                summary["steps"],
                summary["tokens"],
                float(summary["final_loss"]),
            )
        )
    head = ("training", "objective", "pairs", "steps", "tokens", "last loss")
    settings = [(name, value) for name, value in trainings[-1].manifest["config"].items() if name != "objective"]
    return (
        f"The trainings that lead from the base model to this one, the first one first:\n\n{table(head, rows)}\n\n"
        f"Settings of the last one:\n\n{table(('setting', 'value'), settings)}"
    )


def _trainings(point: Point) -> Iterator[Artifact]:
    """The trainings from the base model to the point, as far back as the store still has them."""
    chain, reference = [], point.checkpoint
    while reference.startswith("train/"):
        artifact = point.store.find(*reference.split("/"))
        if artifact is None:
            break
        chain.append(artifact)
        reference = artifact.manifest["inputs"]["policy"]
    return reversed(chain)


def results_section(point: Point) -> str:
    """The point's metrics beside the base model's, and who judged them."""
    row, base = point.row, point.rows[0]
    if not row.metrics:
        return f"There are none: the evaluation of this iteration is {row.state}."
    names = [name for name in sorted(row.metrics) if not name.endswith(("_se", "/n"))]
    rows = [(name, _measured(row, name), _measured(base, name), _count(row, name)) for name in names]
    head = ("metric", "this model", "base model", "n")
    about = "Rates are in percent, ± is the standard error over the prompts, lengths are means of the answers'."
    return f"{about}\n\n{table(head, rows)}\n\n{_judges(point)}".rstrip()


def _measured(row: ResultRow, metric: str) -> str:
    value, error = row.value(metric), row.standard_error(metric)
    if value is None:
        return ""
    return f"{value:.6g}" + (f" ± {error:.2g}" if error else "")


def _count(row: ResultRow, metric: str) -> str:
    number = row.value(f"{metric.split('/')[0]}/n")
    return "" if number is None else f"{number:.0f}"


def _judges(point: Point) -> str:
    """Who judged each benchmark, and when."""
    lines = []
    for benchmark, node in point.graph.iterations[point.t].scores.items():
        config = node.request.config
        judge: Mapping[str, Any] = config.get("judge") or {}
        if node.stage == "judge":
            said = (
                f"a program that knows the world `{config['world']['name']}`; `judged_win_rate` and `lc_win_rate` by "
                f"one that also pays {config['length_bias']:g} for every ten tokens"
            )
        else:
            said = ", ".join(f"{name} {value}" for name, value in judge.items()) or "none: a program checks the answers"
        artifact = find_artifact(point.store, node)
        when = f" ({artifact.manifest['created_at'][:10]})" if artifact and "created_at" in artifact.manifest else ""
        lines.append(f"- {benchmark}: judged by {said}{when}")
    return "\n".join(lines)


def _origins(point: Point) -> str:
    """The checkpoint, the base model and the programs that made it."""
    rows: list[tuple[str, object]] = [("sweep", point.sweep.name), ("trial", point.trial.name), ("iteration", point.t)]
    rows.append(("checkpoint", point.checkpoint))
    rows.append(("base model", base_name(point)))
    if point.base_fingerprint is not None:
        rows.append(("fingerprint of the base model's files", point.base_fingerprint))
    artifact = point.store.find(*point.checkpoint.split("/"))
    if artifact is not None:
        rows += [(f"input `{name}`", reference) for name, reference in artifact.manifest["inputs"].items()]
        rows += [(f"plug-in: {kind}", identity) for kind, identity in artifact.manifest.get("plugins", {}).items()]
        rows += [(name, version) for name, version in artifact.manifest.get("versions", {}).items()]
        rows.append(("made at", artifact.manifest.get("created_at", "")))
    return table(("what", "which"), rows)


def _licence(point: Point, licence: str | None) -> str:
    if point.base_fingerprint is None:
        return "The base model was trained from nothing in the micro world; nobody else's licence applies."
    files = ", ".join(path.name for path in licence_files(point))
    if licence is None and not files:
        return (
            f"The folder of {base_name(point)} says nothing of its licence. What is made from a model is bound by its "
            "licence: look it up before you pass this on."
        )
    named = f"{base_name(point)} is under the licence {licence}" if licence else f"See {files}"
    return f"{named}{f' ({files})' if licence and files else ''}; what is made from it is bound by that licence."
