"""``course serve``: serving a model to OpenAI clients."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from autograder.commands.console import console

EXAMPLE = "course serve --port 8001 --max-num-seqs 16"


def serve(
    model: Annotated[
        str, typer.Option(help="course-tiny, or a folder with a Hugging Face checkpoint.")
    ] = "course-tiny",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port; 0 for any that is free.")
    ] = 8000,
    api_key: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(envvar="COURSE_API_KEY", help="What clients have to send."),
    ] = None,
    allow_anyone: Annotated[
        bool, typer.Option("--allow-anyone", help="Let other machines in without a key.")
    ] = False,
    num_blocks: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Blocks of the KV cache; as many as memory allows."),
    ] = None,
    block_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Tokens per block; 16."),
    ] = None,
    max_num_seqs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Most answers in a batch; 128."),
    ] = None,
    max_num_batched_tokens: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Most tokens per step; 2048."),
    ] = None,
    max_model_len: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Longest sequence; what the model and the cache can hold."),
    ] = None,
    policy: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Order of service: fcfs, priority, sjf, ..."),
    ] = None,
    preemption_mode: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What becomes of blocks that are taken away: recompute or swap."),
    ] = None,
    num_cpu_blocks: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Blocks of CPU memory to swap to."),
    ] = None,
    prefix_caching: Annotated[
        bool, typer.Option(help="Keep blocks for prompts that begin alike.")
    ] = True,
    parts: Annotated[
        str, typer.Option(help="own: your parts where you have some; reference: the library's.")
    ] = "own",
    debug: Annotated[
        bool, typer.Option("--debug", help="Check every invariant in every step; slow.")
    ] = False,
) -> None:
    """Serve a model to OpenAI clients on this machine. Ctrl-C stops it.

    What becomes of the fields of a request to /v1/completions, of one to /v1/chat/completions
    ("chats"), of both, and of a chat's messages:

    Understood in both: model, max_tokens, n, temperature, top_p, stop, seed, stream,
    stream_options, top_k, min_p, repetition_penalty, stop_token_ids, ignore_eos, priority,
    cache_salt, user, logprobs. Understood in completions: prompt, echo. Understood in chats:
    messages, max_completion_tokens, top_logprobs. Understood in messages: role, content, name.

    Ignored in both: metadata, store, service_tier, safety_identifier, prompt_cache_key,
    prompt_cache_options, prompt_cache_retention, request_id. Ignored in chats:
    parallel_tool_calls, prediction. Ignored in messages: annotations.

    Accepted if it says no more than this in both: frequency_penalty: 0, presence_penalty: 0,
    logit_bias: empty, best_of: 1, min_tokens: 0, bad_words: empty, length_penalty: 1,
    use_beam_search: false, skip_special_tokens: true, spaces_between_special_tokens: true,
    include_stop_str_in_output: false, return_token_ids: false, return_tokens_as_token_ids:
    false. Accepted if it says no more than this in completions: suffix: empty,
    add_special_tokens: true. Accepted if it says no more than this in chats: echo: false,
    add_special_tokens: false, tools: empty, tool_choice: none or auto, functions: empty,
    function_call: none or auto, response_format: {"type": "text"}, modalities: ["text"],
    reasoning_effort: none, verbosity: medium, add_generation_prompt: true,
    continue_final_message: false, documents: empty, chat_template_kwargs: empty. Accepted if it
    says no more than this in messages: function_call: empty, refusal: empty, tool_calls: empty,
    reasoning: empty, reasoning_content: empty.

    Every other field that is not null is refused by name.
    """
    from autograder.terminal import serving

    serving.serve(
        model,
        serving.Address(host, port, api_key, allow_anyone),
        {
            "num_blocks": num_blocks,
            "block_size": block_size,
            "max_num_seqs": max_num_seqs,
            "max_num_batched_tokens": max_num_batched_tokens,
            "max_model_len": max_model_len,
            "policy": policy,
            "preemption_mode": preemption_mode,
            "num_cpu_blocks": num_cpu_blocks,
            "enable_prefix_caching": prefix_caching,
            "debug": debug,
        },
        console,
        parts,
    )
