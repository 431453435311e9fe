"""Which settings of a user's DeepSpeed configuration may be used: those that change results by rounding alone.

`compute` is not part of a stage's key, so nothing in it may change what is learnt. Settings that do are the recipe's
(`train`), or are refused; so are settings that are not known here, since nobody could tell what they change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

AUTO = "auto"
"""What users write where transformers' trainer is to fill a value in; here the recipe does."""

_FREE = object()
"""Any value: speed, memory, what is logged."""


def _free(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), _FREE)


_OFFLOAD = _free(
    "device nvme_path buffer_count buffer_size max_in_cpu pin_memory pipeline pipeline_read pipeline_write fast_init "
    "ratio cpuadam_cores_perc"
) | {"super_offload": (False,)}

_FLOAT32 = (None, "fp32", "float32")

ALLOWED: dict[str, Any] = {
    **_free(
        "train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps gradient_clipping scheduler "
        "steps_per_print wall_clock_breakdown memory_breakdown dump_state disable_python_gc log_level timers "
        "flops_profiler comms_logger tensorboard wandb comet csv_monitor aio activation_checkpointing "
        "dataloader_drop_last zero_allow_untested_optimizer zero_force_ds_cpu_optimizer fp16"
    ),
    "prescale_gradients": (False,),
    "gradient_predivide_factor": (1, 1.0),
    "gradient_allreduce_op": ("mean",),
    "sparse_gradients": (False,),
    "communication_data_type": _FLOAT32,
    "seq_parallel_communication_data_type": _FLOAT32,
    "data_types": {"grad_accum_dtype": _FLOAT32, "param_dtype": _FLOAT32, "buffer_dtype": _FLOAT32},
    "torch_autocast": {"enabled": (False,)},
    "amp": {"enabled": (False,)},
    "bf16": {
        **dict.fromkeys(("enabled", "immediate_grad_update", "check_grad_overflow"), _FREE),
        **dict.fromkeys(("bf16_master_weights_and_grads", "bf16_optimizer_states"), (False,)),
    },
    "optimizer": {
        "type": _FREE,
        "legacy_fusion": (False,),
        "params": {
            **_free("lr weight_decay betas eps torch_adam fused foreach"),
            **dict.fromkeys(("adam_w_mode", "bias_correction", "fp32_optimizer_states"), (True,)),
            **dict.fromkeys(("amsgrad", "maximize"), (False,)),
        },
    },
    "zero_optimization": {
        **_free(
            "stage contiguous_gradients reduce_scatter reduce_bucket_size use_multi_rank_bucket_allreduce "
            "allgather_partitions allgather_bucket_size overlap_comm load_from_fp32_weights elastic_checkpoint "
            "sub_group_size cpu_offload cpu_offload_param cpu_offload_use_pin_memory prefetch_bucket_size "
            "stage3_prefetch_bucket_size param_persistence_threshold stage3_param_persistence_threshold "
            "model_persistence_threshold stage3_model_persistence_threshold max_live_parameters "
            "stage3_max_live_parameters max_reuse_distance stage3_max_reuse_distance "
            "gather_16bit_weights_on_model_save stage3_gather_16bit_weights_on_model_save "
            "stage3_gather_fp16_weights_on_model_save module_granularity_threshold stage3_module_granularity_threshold "
            "stage3_use_all_reduce_for_fetch_params stage3_allgather_sequential ignore_unused_parameters legacy_stage1 "
            "round_robin_gradients parameter_alignment zero_hpz_partition_size memory_efficient_linear "
            "pipeline_loading_checkpoint override_module_apply log_trace_cache_warnings enable_sanity_checks "
            "leaf_module"
        ),
        "offload_param": _OFFLOAD,
        "offload_optimizer": _OFFLOAD,
        "zero_quantized_weights": (False,),
        "zero_quantized_nontrainable_weights": (False,),
        "zero_quantized_gradients": (False,),
        "zenflow": (None,),
    },
}
"""By name: any value, a tuple of the values that change nothing, or a section. What the recipe must agree with is
checked in `deepspeed_config`."""


def setting_problems(user: Mapping[str, Any]) -> list[str]:
    """One sentence for every setting that changes results beyond rounding, or may do so."""
    return list(_problems(user, ALLOWED, ""))


def _problems(given: Mapping[str, Any], allowed: Mapping[str, Any], place: str) -> Iterator[str]:
    for key, value in given.items():
        name, rule = f"{place}{key}", allowed.get(key)
        if rule is None:
            yield f"deepspeed {name} is not among the settings known to leave results as they are; leave it out"
        elif isinstance(rule, dict):
            yield from _problems(value, rule, f"{name}.") if isinstance(value, Mapping) else ()
        elif rule is not _FREE and value != AUTO and value not in rule:
            yield (
                f"deepspeed {name} is {value!r}, which changes results beyond rounding and is no setting of the "
                f"recipe; set it to {rule[0]!r} or leave it out"
            )
