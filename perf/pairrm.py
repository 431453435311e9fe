"""The `pairrm` ranker against llm-blender on the same small random checkpoint: prompts per CPU second.

    python perf/pairrm.py [--prompts 16] [--candidates 5] [--longest 60] [--layers 2] [--hidden 64] [--rounds 3]
                          [--threads 1] [--blender-batch 8]

Both sides run in this process and take turns, each with all prompts at once and weights loaded before. llm-blender runs
with the batch size of AIPO's recipes, 8; `--blender-batch 1` is what its scores are exact with. What is saved is work
around the matrix products, and padding: the larger the network and the shorter the texts, the smaller the ratio (1.65
with 6 layers of 256, 2.63 against batch size 1; 5.7 with 2 layers of 64 and texts of up to 300 words). Needs
llm-blender (`pip install 'aipo-lab[llm-blender]'`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "ranking"))
from pairrm_checkpoints import make_rows, write_original

from aipo_lab.ranking.pairrm.blender import load_blender
from aipo_lab.ranking.pairrm.ranker import open_pairrm, resources
from aipo_lab.ranking.pairrm.settings import PairRMSettings
from aipo_lab.ranking.ranker import RankerContext


def main() -> None:
    import torch

    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    rows = make_rows(arguments.prompts, arguments.longest, arguments.candidates)
    prompts = [row["prompt"] for row in rows]
    texts = [[one["text"] for one in row["responses"]] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        size = {"hidden_size": arguments.hidden, "num_attention_heads": arguments.hidden // 64}
        size |= {"intermediate_size": 4 * arguments.hidden, "num_hidden_layers": arguments.layers}
        checkpoint = write_original(Path(folder), **size, position_buckets=256)
        settings = PairRMSettings(model=str(checkpoint))
        ranker = open_pairrm(settings, RankerContext(None, 0, "cpu", resources(settings).folders))
        blender = load_blender(str(checkpoint), "cpu")

        def native() -> Any:
            return list(ranker.scores(rows, lambda *_: None))

        def package() -> Any:
            batch = arguments.blender_batch
            return blender.rank(prompts, texts, return_scores=True, batch_size=batch, disable_tqdm=True)

        native_s, package_s = [], []
        for number in range(arguments.rounds):
            native_s.append(seconds(native))
            package_s.append(seconds(package))
            print(
                f"round {number + 1}: pairrm {arguments.prompts / native_s[-1]:.2f} prompts/CPU-s, "
                f"llm-blender {arguments.prompts / package_s[-1]:.2f} prompts/CPU-s",
                flush=True,
            )
    print(f"ratio llm_blender = {median(package_s) / median(native_s):.2f}")


def seconds(work: Any) -> float:
    """CPU seconds of this process, all threads: what others do on the machine meanwhile does not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument("--longest", type=int, default=60, help="words of the longest prompts and candidates")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blender-batch", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
