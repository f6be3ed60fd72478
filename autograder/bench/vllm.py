"""vLLM's own scheduler and KV cache manager, for ``course bench core`` to measure as well.

Both are made without a model: of its configuration they ask no more than what ``_Model`` says.
Importing this module imports vLLM.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Sequence
from typing import Any

from course_lib.scheduling.timing import BLOCK_SIZE, PROMPT_TOKENS

# vLLM reads it when it is imported, and tells a lot about a machine without a GPU.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

_config = importlib.import_module("vllm.config")
_hashing = importlib.import_module("vllm.utils.hashing")
_kv_cache_utils = importlib.import_module("vllm.v1.core.kv_cache_utils")
_kv_cache_interface = importlib.import_module("vllm.v1.kv_cache_interface")
_outputs = importlib.import_module("vllm.v1.outputs")
_request = importlib.import_module("vllm.v1.request")
_sampling_params = importlib.import_module("vllm.sampling_params")
_scheduler = importlib.import_module("vllm.v1.core.sched.scheduler")


class _Model:
    """What a scheduler asks of a model: a decoder of text and nothing else."""

    is_diffusion = is_encoder_decoder = return_sampling_mask = supports_multimodal_inputs = False
    uses_mrope = False
    multimodal_config = None
    runner_type = "generate"

    def __init__(self, max_model_len: int) -> None:
        self.max_model_len = max_model_len


class _NoGrammar:
    """Stands in for the manager of structured outputs, which no request here asks for."""

    def accept_tokens(self, *_: object) -> bool:
        """Let every token pass."""
        return True

    def should_advance(self, _: object) -> bool:
        """Advance no grammar."""
        return False


def scheduler_steps_per_second(num_running: int, num_steps: int = 64) -> float:
    """Measure vLLM's steps per second of CPU time, at the work of ``timing.scheduler_steps``.

    Args:
        num_running: Requests that decode.
        num_steps: Steps to measure.
    """
    scheduler = _decoding_scheduler(num_running, num_steps)
    start = time.process_time()
    for token in range(num_steps):
        _step(scheduler, token)
    return num_steps / (time.process_time() - start)


def admissions_per_second(prompts: Sequence[Sequence[int]], num_blocks: int) -> float:
    """Measure looking prompts up and allocating for them; freeing them is not counted.

    Args:
        prompts: The prompts, one after the other. The first one is not counted.
        num_blocks: Blocks of the KV cache.
    """
    longest = max(map(len, prompts))
    manager = _make_scheduler(1, num_blocks, longest + BLOCK_SIZE).kv_cache_manager
    seconds = 0.0
    for index, prompt in enumerate(prompts):
        start = time.process_time()
        request = _make_request(str(index), prompt, max_tokens=1)  # vLLM hashes it here
        blocks, num_computed, _ = manager.get_computed_blocks(request)
        manager.allocate_slots(request, len(prompt) - num_computed, num_computed, blocks)
        if index > 0:
            seconds += time.process_time() - start
        manager.free(request)
    return (len(prompts) - 1) / seconds


def _decoding_scheduler(num_running: int, num_steps: int) -> Any:
    """Return vLLM's scheduler with requests past their prompts, as ``decoding_scheduler`` does."""
    longest = PROMPT_TOKENS + BLOCK_SIZE + num_steps
    num_blocks = num_running * (-(-longest // BLOCK_SIZE) + 1) + 1
    scheduler = _make_scheduler(num_running, num_blocks, longest + BLOCK_SIZE)
    for index in range(num_running):
        prompt = range(index, index + PROMPT_TOKENS + index % BLOCK_SIZE)
        scheduler.add_request(_make_request(str(index), prompt, max_tokens=num_steps + 2))
    _step(scheduler, 0)
    return scheduler


def _make_request(request_id: str, prompt: Sequence[int], max_tokens: int) -> Any:
    """Return a request of vLLM whose blocks are hashed as by default."""
    return _request.Request(
        request_id=request_id,
        prompt_token_ids=list(prompt),
        sampling_params=_sampling_params.SamplingParams(max_tokens=max_tokens),
        pooling_params=None,
        block_hasher=_kv_cache_utils.get_request_block_hasher(BLOCK_SIZE, _hashing.sha256),
    )


def _make_scheduler(num_running: int, num_blocks: int, max_model_len: int) -> Any:
    """Return an empty scheduler of vLLM, with prefix caching on."""
    _kv_cache_utils.init_none_hash(_hashing.sha256)
    cache_config = _config.CacheConfig(block_size=BLOCK_SIZE, enable_prefix_caching=True)
    config = _config.VllmConfig(
        cache_config=cache_config,
        device_config=_config.DeviceConfig(device="cpu"),
        scheduler_config=_config.SchedulerConfig(
            max_model_len=max_model_len,
            is_encoder_decoder=False,
            max_num_seqs=num_running,
            max_num_batched_tokens=num_running * max_model_len,
            async_scheduling=False,
        ),
    )
    cache_config.num_gpu_blocks = num_blocks
    config.model_config = _Model(max_model_len)
    attention = _kv_cache_interface.FullAttentionSpec(
        BLOCK_SIZE, num_kv_heads=1, head_size=1, dtype=importlib.import_module("torch").bfloat16
    )
    return _scheduler.Scheduler(
        vllm_config=config,
        kv_cache_config=_kv_cache_interface.KVCacheConfig(
            num_blocks=num_blocks,
            kv_cache_tensors=[],
            kv_cache_groups=[_kv_cache_interface.KVCacheGroupSpec(["layer"], attention)],
        ),
        structured_output_manager=_NoGrammar(),
        block_size=BLOCK_SIZE,
    )


def _step(scheduler: Any, token: int) -> None:
    """Plan a step and take in one token for every request."""
    output = scheduler.schedule()
    names = list(output.num_scheduled_tokens)
    scheduler.update_from_output(
        output,
        _outputs.ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=[[token] for _ in names],
        ),
    )
