"""PairRM's scores against llm-blender's, its limits, its tokens, and what is in a checkpoint's layouts."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pairrm_checkpoints import PREFIXES, make_rows, write_hf, write_original
from pairrm_golden import GOLDEN, blender_scores, golden_checkpoint, golden_rows

from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.ranking.pairrm.checkpoint import find_checkpoint
from aipo_lab.ranking.pairrm.loading import load_tokenizer
from aipo_lab.ranking.pairrm.ranker import open_pairrm, resources
from aipo_lab.ranking.pairrm.settings import PairRMSettings
from aipo_lab.ranking.pairrm.tokens import PairTokens
from aipo_lab.ranking.ranker import RankerContext
from aipo_lab.stages.rank import competition_ranks


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_checkpoint(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hf(tmp_path_factory.mktemp("hf"))


def ranker(folder: Path, **settings: Any) -> Any:
    chosen = PairRMSettings(model=str(folder), **settings)
    return open_pairrm(chosen, RankerContext(None, 0, "cpu", resources(chosen).folders))


def scores(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> list[list[float]]:
    return list(ranker(folder, **settings).scores(rows, lambda *_: None))


def with_texts(*texts: str, prompt: str = "why is the sun red") -> dict[str, Any]:
    return {"id": "000000", "prompt": prompt, "responses": [{"text": text, "tokens": 5} for text in texts]}


def test_scores_and_ranks_are_llm_blenders_at_batch_size_1(original: Path) -> None:
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))
    made = scores(original, golden_rows())
    assert len(made) == 200 and {len(row) for row in made} == {5}
    for row, golden in zip(made, expected, strict=True):
        assert row == pytest.approx(golden, abs=1e-4)
        assert competition_ranks(row) == competition_ranks(golden)


def test_the_golden_scores_are_those_of_the_package_here(original: Path) -> None:
    if importlib.util.find_spec("llm_blender") is None:
        pytest.skip("the package llm-blender is not installed; pairrm_golden.json has its scores")
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))[:10]
    for row, golden in zip(blender_scores(original, golden_rows()[:10]), expected, strict=True):
        assert row == pytest.approx(golden, abs=1e-5)


def test_both_layouts_of_one_checkpoint_score_alike(tmp_path: Path) -> None:
    first, second = write_original(tmp_path, seed=3), write_hf(tmp_path, seed=3)
    rows = make_rows(6)
    for row, other in zip(scores(first, rows), scores(second, rows), strict=True):
        assert row == pytest.approx(other, abs=1e-5)


def test_a_checkpoint_needs_no_backbone_if_it_has_a_tokenizer(tmp_path: Path) -> None:
    """The shape follows from the weights, and buffers that older versions saved are no error."""
    import torch
    from safetensors.torch import load_file

    whole = write_original(tmp_path, hidden_size=64, num_attention_heads=1)
    rows = make_rows(4)
    expected = scores(whole, rows)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "backbone" / name, whole / name)
    shutil.rmtree(tmp_path / "backbone")
    for row, other in zip(scores(whole, rows), expected, strict=True):
        assert row == pytest.approx(other, abs=1e-6)
    weights = load_file(whole / "model.safetensors")
    weights["pretrained_model.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(weights, whole / "pytorch_model.bin")
    (whole / "model.safetensors").unlink()
    for row, other in zip(scores(whole, rows), expected, strict=True):
        assert row == pytest.approx(other, abs=1e-6)


def test_a_backbone_of_another_kind_is_computed_by_transformers(tmp_path: Path) -> None:
    """Slower, and with the same rules: here without relative positions."""
    import torch
    from transformers import DebertaV2Model

    folder = write_hf(tmp_path, relative_attention=False, pos_att_type=[], position_biased_input=True)
    rows = make_rows(3)
    one = ranker(folder)
    made = list(one.scores(rows, lambda *_: None))
    assert isinstance(one._network._backbone, DebertaV2Model) and not one._network._encoder.is_v3
    assert all(torch.isfinite(torch.tensor(row)).all() for row in made)


@pytest.mark.parametrize(
    "text", ["a [SEP] b", "<|candidate1|> red", "[SEP]<|source|>[CLS]", "<|candi<|candidate1|>date1|>"]
)
def test_special_tokens_in_the_text_of_users_break_nothing(original: Path, text: str) -> None:
    rows = [with_texts("the sun is old", text, "the moon"), with_texts("the sun is old", "a fox", prompt=text)]
    made = scores(original, rows)
    assert [len(row) for row in made] == [3, 2]
    checkpoint = find_checkpoint(str(original))
    tokens = PairTokens(load_tokenizer(checkpoint), checkpoint)
    source = tokens.source(text)
    sequence = tokens.sequence(source, *tokens.candidates([text, text], source))
    prefixes = load_tokenizer(checkpoint)
    prefixes.add_tokens(PREFIXES)
    ids = prefixes.convert_tokens_to_ids(PREFIXES[:3])
    assert [sequence.tokens[place] for place in sequence.places] == ids
    assert [token for token in sequence.tokens if token in prefixes.convert_tokens_to_ids(PREFIXES)] == ids


def test_a_separator_counts_as_a_space(original: Path) -> None:
    """llm-blender's rule."""
    separated, spaced = scores(original, [with_texts("a[SEP]b", "fox"), with_texts("a b", "fox")])
    assert separated == spaced


def test_what_a_source_leaves_is_given_to_candidates(original: Path) -> None:
    checkpoint = find_checkpoint(str(original))  # 60 tokens for a source, 24 for a candidate
    tokens = PairTokens(load_tokenizer(checkpoint), checkpoint)
    long = "fox " * 200
    assert len(tokens.source(long)) == 60
    assert [len(one) for one in tokens.candidates([long], tokens.source(long))] == [24]
    short = tokens.source("fox")
    assert [len(one) for one in tokens.candidates([long, "fox"], short)] == [24 + (60 - len(short)) // 2, 4]
    assert tokens.candidates([long], short)[0][-1] == 2


def test_neither_other_rows_nor_batches_decide_a_score(original: Path) -> None:
    rows = make_rows(12, longest=80)
    together = scores(original, rows)
    for row, expected in zip(rows, together, strict=True):
        assert scores(original, [row], batch_tokens=64)[0] == pytest.approx(expected, abs=1e-5)


def test_long_sequences_look_distances_up(original: Path, hf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aipo_lab.ranking.pairrm import encoder

    rows = make_rows(4, longest=60)
    by_distance = scores(hf, rows)
    monkeypatch.setattr(encoder, "MOST_DISTANCES_TOKENS", 0)
    for row, expected in zip(scores(hf, rows), by_distance, strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


def test_a_tournament_names_best_and_worst_and_says_how_often_it_is_right(original: Path) -> None:
    rows = make_rows(30)
    one = ranker(original, mode="best_worst", agreement_rows=100)
    for row, made in zip(rows, one.scores(rows, lambda *_: None), strict=True):
        row["scores"] = made
    assert all(sorted(row["scores"]) == [-1.0, 0.0, 0.0, 0.0, 1.0] or set(row["scores"]) == {0.0} for row in rows)
    summary = one.summary(rows, lambda *_: None)
    full = scores(original, rows)
    decided = [(row, other) for row, other in zip(rows, full, strict=True) if max(row["scores"]) > 0]
    right = sum(row["scores"].index(1.0) == other.index(max(other)) for row, other in decided)
    assert summary["agreement_prompts"] == len(decided)
    assert summary["agreement_best_percent"] == round(100 * right / len(decided), 1)
    assert summary["agreement_worst_percent"] > 50


def test_a_tournament_compares_less(original: Path) -> None:
    rows = make_rows(10)
    full, short = ranker(original), ranker(original, mode="best_worst")
    for one in (full, short):
        list(one.scores(rows, lambda *_: None))
    assert short._ranker.comparisons <= 0.65 * full.comparisons


def test_its_key_is_the_content_of_the_checkpoint(original: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(original, tmp_path / "moved"))
    found = [resources(PairRMSettings(model=str(folder))) for folder in (original, moved)]
    assert found[0].identity == found[1].identity
    assert found[0].folders != found[1].folders
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"source_maxlength": 61}))
    assert resources(PairRMSettings(model=str(moved))).identity != found[0].identity


def test_a_wrong_checkpoint_is_an_error_with_its_reasons(hf: Path, tmp_path: Path) -> None:
    def message(**changes: Any) -> str:
        folder = Path(shutil.copytree(hf, tmp_path / str(len(list(tmp_path.iterdir())))))
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError) as error:
            find_checkpoint(str(folder))
        return str(error.value)

    assert "its model_type is 'llama'" in message(model_type="llama")
    assert "'reranker'" in message(ranker_type="reranker")
    assert "source_maxlength is 'x'" in message(source_maxlength="x")
    with pytest.raises(UserError, match=r"rank\.model '/nowhere' is not a folder"):
        find_checkpoint("/nowhere")


def test_weights_of_another_network_are_an_error(hf: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(hf, tmp_path / "damaged"))
    weights = load_file(folder / "model.safetensors")
    head = weights.pop("head_layer.4.weight")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"has no tensor head_layer\.4\.weight"):
        find_checkpoint(str(folder))
    del weights["pretrained_model.encoder.LayerNorm.weight"]
    save_file(weights | {"head_layer.4.weight": head}, folder / "model.safetensors")
    with pytest.raises(StageFailed, match=r"(?s)not PairRM's: .*encoder\.LayerNorm\.weight"):
        ranker(folder)


def test_the_package_as_backend_says_what_it_needs(hf: Path) -> None:
    with pytest.raises(UserError, match="not that of PairRM-hf"):
        resources(PairRMSettings(model=str(hf), backend="llm_blender"))
