"""What the engine promises its users: answers, streams, ends, errors, and what they cost."""

import itertools
import json
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from course_lib.attention import triton_state
from course_lib.engine import LLM, EngineDeadError, EngineParts, PromptError, SamplingParams
from course_lib.engine.interrupts import deferred_interrupts
from course_lib.kv_cache import InvariantError
from course_lib.kv_cache.watch import invariants as invariants_module
from course_lib.scheduling import RequestStatus

Save = Callable[..., Path]

PROMPT = list(range(40, 51))
OTHERS = [list(range(start, start + 7)) for start in range(3, 60, 4)]


def greedy(max_tokens: int = 8, **params: Any) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=max_tokens, **params)


def make_llm(model: str | Path = "course-tiny", **options: Any) -> LLM:
    options = {"num_blocks": 200, "block_size": 4, "parts": EngineParts.reference()} | options
    return LLM(model, **options)


def varied(max_tokens: int = 40, **params: Any) -> SamplingParams:
    """Ask for a long answer of many different tokens, however well the model was trained."""
    return SamplingParams(temperature=1.5, seed=3, ignore_eos=True, max_tokens=max_tokens, **params)


@pytest.fixture
def random_llm(hf_checkpoint: Save) -> Callable[..., LLM]:
    """Make an engine of a random checkpoint, without tokenizer and without an end token."""
    return lambda **options: make_llm(
        hf_checkpoint("llama", eos_token_id=options.pop("eos_token_id", None)), **options
    )


def answer(llm: LLM, prompt: Any = PROMPT, params: SamplingParams | None = None) -> Any:
    return llm.generate(prompt, params or greedy())[0].outputs[0]


def num_blocks_in_use(llm: LLM) -> int:
    pool = llm.kv_cache_manager.block_pool
    return pool.num_blocks - 1 - pool.get_num_free_blocks()


# Prompts in, answers out


def test_a_prompt_may_be_a_text_or_tokens_alone_or_in_a_list() -> None:
    llm = make_llm()
    text = "A block table"
    token_ids = llm.tokenizer.encode(text)
    results = [
        llm.generate(prompt, greedy())
        for prompt in (
            text,
            [text],
            {"prompt": text},
            token_ids,
            [token_ids],
            (token_ids,),
            {"prompt_token_ids": token_ids},
            [{"prompt_token_ids": token_ids, "prompt": text}],
        )
    ]
    assert len({tuple(result[0].outputs[0].token_ids) for result in results}) == 1
    assert [result[0].prompt for result in results] == [text] * 3 + [None] * 5
    assert all(result[0].prompt_token_ids == token_ids for result in results)
    assert llm.generate([], greedy()) == []


def test_answers_come_in_the_order_of_the_prompts_each_with_its_own_parameters(
    random_llm: Callable[..., LLM],
) -> None:
    llm = random_llm(max_num_seqs=3)
    params = [greedy(max_tokens=20 - index) for index in range(len(OTHERS))]
    results = llm.generate(OTHERS, params)
    assert [result.prompt_token_ids for result in results] == OTHERS
    assert [len(result.outputs[0].token_ids) for result in results] == [
        each.max_tokens for each in params
    ]
    with pytest.raises(ValueError, match="15 prompts have 2 sampling parameters"):
        llm.generate(OTHERS, params[:2])


def test_the_text_is_that_of_the_tokens() -> None:
    llm = make_llm()
    found = answer(llm, "The scheduler", varied(30))
    assert found.text
    whole = llm.tokenizer.decode(llm.tokenizer.encode("The scheduler") + found.token_ids)
    assert whole == "The scheduler" + found.text


@pytest.fixture
def greedy_by_default(hf_checkpoint: Save, tmp_path: Path) -> LLM:
    """A model whose makers recommend the most probable token, and answers of 5."""
    folder = shutil.copytree(hf_checkpoint("llama", eos_token_id=None), tmp_path / "model")
    recommended = {"temperature": 0.0, "max_new_tokens": 5}
    (folder / "generation_config.json").write_text(json.dumps(recommended))
    return make_llm(folder)


def test_who_asks_for_nothing_gets_what_the_makers_recommend(greedy_by_default: LLM) -> None:
    llm = greedy_by_default
    assert llm.get_default_sampling_params() == greedy(5)
    expected = answer(llm, PROMPT, greedy(5)).token_ids
    assert llm.generate(PROMPT)[0].outputs[0].token_ids == expected
    assert [*llm.generate_stream(PROMPT)][-1].outputs[0].token_ids == expected
    llm.add_request("r", PROMPT)
    outputs = [output for _ in range(5) for output in llm.step()]
    assert outputs[-1].outputs[0].token_ids == expected


def test_who_asks_for_something_gets_that_alone(greedy_by_default: LLM) -> None:
    answers = {
        tuple(answer(greedy_by_default, PROMPT, SamplingParams(seed=seed)).token_ids)
        for seed in range(3)
    }
    assert len(answers) == 3
    assert {len(token_ids) for token_ids in answers} == {16}


def test_a_chat_is_the_prompt_that_the_template_makes_of_it() -> None:
    llm = make_llm()
    messages = [{"role": "user", "content": "What is a block?"}]
    [result] = llm.chat(messages, greedy())
    assert result.prompt_token_ids == llm.tokenizer.apply_chat_template(messages)
    assert result.outputs[0].token_ids


def test_a_stream_grows_step_by_step_to_what_generate_returns() -> None:
    llm = make_llm()
    outputs = list(llm.generate_stream("The scheduler", varied(20)))
    expected = answer(llm, "The scheduler", varied(20))
    assert [len(output.outputs[0].token_ids) for output in outputs] == list(
        range(1, len(expected.token_ids) + 1)
    )
    assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]
    texts = [output.outputs[0].text for output in outputs]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert texts[-1] == expected.text


def test_streams_and_steps_and_generate_may_be_mixed(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm()
    expected = [answer(llm, prompt).token_ids for prompt in OTHERS[:4]]
    first, second = (llm.generate_stream(prompt, greedy()) for prompt in OTHERS[:2])
    next(first), next(second)
    llm.add_request("mine", OTHERS[2], greedy())
    assert answer(llm, OTHERS[3]).token_ids == expected[3]
    ends = [list(stream)[-1].outputs[0].token_ids for stream in (first, second)]
    # What was generated for the others meanwhile is reported by the next step.
    [output] = llm.step()
    assert [*ends, output.outputs[0].token_ids] == expected[:3]
    assert output.finished
    assert llm.step() == []


def test_a_stream_whose_reader_leaves_is_aborted(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm()
    for output in llm.generate_stream(PROMPT, greedy(100)):
        if len(output.outputs[0].token_ids) == 3:
            break
    # The generator is gone with the loop, and with it the request.
    assert not llm.has_unfinished_requests()
    assert num_blocks_in_use(llm) == 0
    never_read = llm.generate_stream(PROMPT)
    assert not llm.has_unfinished_requests()
    never_read.close()


# Ends


def test_the_models_own_end_is_stop_without_a_reason(random_llm: Callable[..., LLM]) -> None:
    tokens = answer(random_llm()).token_ids
    llm = random_llm(eos_token_id=[tokens[4], tokens[2]])
    end = answer(llm)
    # The first end token of the list is the model's own; another one is named, as in vLLM.
    assert end.token_ids == tokens[:3]
    assert (end.finish_reason, end.stop_reason) == ("stop", tokens[2])
    end = answer(random_llm(eos_token_id=[tokens[2]]))
    assert end.token_ids == tokens[:3]
    assert (end.finish_reason, end.stop_reason) == ("stop", None)
    on = answer(llm, PROMPT, greedy(ignore_eos=True))
    assert (on.token_ids, on.finish_reason) == (tokens, "length")


def test_a_stop_token_ends_an_answer_and_is_named(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm()
    tokens = answer(llm).token_ids
    end = answer(llm, PROMPT, greedy(stop_token_ids=[tokens[3]]))
    assert end.token_ids == tokens[: tokens.index(tokens[3]) + 1]
    assert (end.finish_reason, end.stop_reason) == ("stop", tokens[3])
    # Also if it is the last one that max_tokens allows.
    last = answer(llm, PROMPT, greedy(len(end.token_ids), stop_token_ids=[tokens[3]]))
    assert (last.finish_reason, last.stop_reason) == ("stop", tokens[3])
    assert num_blocks_in_use(llm) == 0


def test_a_stop_token_has_no_text() -> None:
    llm = make_llm()
    tokens = answer(llm, "The scheduler", varied(12)).token_ids
    stop = next(token for token in tokens[3:] if token not in tokens[:3])
    end = answer(llm, "The scheduler", varied(12, stop_token_ids=[stop]))
    prefix = llm.tokenizer.encode("The scheduler")
    before = llm.tokenizer.decode(prefix + end.token_ids[:-1])
    assert "The scheduler" + end.text == before


def test_a_stop_string_over_several_tokens_is_cut_off_and_never_shown() -> None:
    llm = make_llm()
    text = answer(llm, "The scheduler", varied(40)).text
    start = len(text) // 2
    stop = text[start : start + 9]
    params = varied(40, stop=["never there", stop])
    outputs = list(llm.generate_stream("The scheduler", params))
    end = outputs[-1].outputs[0]
    assert end.text == text[: text.index(stop)]
    assert (end.finish_reason, end.stop_reason) == ("stop", stop)
    assert all(end.text.startswith(output.outputs[0].text) for output in outputs)
    assert num_blocks_in_use(llm) == 0


def test_an_answer_that_ends_within_a_stop_string_keeps_its_text() -> None:
    llm = make_llm()
    whole = answer(llm, "The scheduler", varied(20)).text
    end = answer(llm, "The scheduler", varied(20, stop=whole[-3:] + "\0"))
    assert (end.text, end.finish_reason) == (whole, "length")


@pytest.mark.parametrize(("options", "longest"), [({"max_model_len": 16}, 16), ({}, 24)])
def test_an_answer_ends_where_a_sequence_must(
    random_llm: Callable[..., LLM], options: dict[str, int], longest: int
) -> None:
    llm = random_llm(num_blocks=7, **options)
    end = answer(llm, PROMPT, greedy(1000))
    assert len(PROMPT) + len(end.token_ids) == longest
    assert end.finish_reason == "length"


@pytest.mark.parametrize(("options", "longest"), [({"max_model_len": 16}, 16), ({}, 24)])
def test_a_prompt_leaves_room_for_an_answer(
    random_llm: Callable[..., LLM], options: dict[str, int], longest: int
) -> None:
    llm = random_llm(num_blocks=7, **options)
    end = answer(llm, [5] * (longest - 1), greedy(1000))
    assert (len(end.token_ids), end.finish_reason) == (1, "length")
    with pytest.raises(PromptError, match=f"shorten it to {longest - 1}"):
        llm.generate([5] * longest, greedy(1))


@pytest.mark.parametrize(("options", "longest"), [({"max_model_len": 16}, 16), ({}, 24)])
def test_without_max_tokens_an_answer_has_as_many_as_fit(
    random_llm: Callable[..., LLM], options: dict[str, int], longest: int
) -> None:
    llm = random_llm(num_blocks=7, **options)
    prompts = [PROMPT, PROMPT[:3], [5] * (longest - 1)]
    params = SamplingParams(temperature=0, max_tokens=None)
    for prompt, output in zip(prompts, llm.generate(prompts, params), strict=True):
        end = output.outputs[0]
        assert (len(end.token_ids), end.finish_reason) == (longest - len(prompt), "length")
    # Whoever orders by the length of answers sees a number.
    llm.add_request("r", PROMPT, params)
    assert llm.scheduler.requests["r"].max_tokens == longest - len(PROMPT)


# Several answers to one prompt


def test_four_answers_share_their_prompt_and_copy_on_write(
    random_llm: Callable[..., LLM],
) -> None:
    llm = random_llm(debug=True)
    llm.add_request("r", PROMPT, SamplingParams(n=4, seed=1, max_tokens=5))
    llm.step()
    # 11 tokens in blocks of 4, one time.
    assert num_blocks_in_use(llm) == 3
    assert len(llm.scheduler.running) == 4
    assert llm.metrics.num_block_copies == 0
    llm.step()
    # Each writes into the third block: three get a copy, the last one has it to itself.
    assert llm.metrics.num_block_copies == 3
    assert num_blocks_in_use(llm) == 3 + 3
    assert llm.last_step is not None
    assert len(llm.last_step.output.blocks_to_copy) == 3
    outputs = []
    while llm.has_unfinished_requests():
        outputs = llm.step()
    [output] = outputs
    assert [each.index for each in output.outputs] == [0, 1, 2, 3]
    assert len({tuple(each.token_ids) for each in output.outputs}) == 4
    assert num_blocks_in_use(llm) == 0


def test_the_prompt_of_several_answers_is_computed_once(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm(enable_prefix_caching=False)
    llm.generate(PROMPT, SamplingParams(n=4, max_tokens=1, seed=1))
    assert llm.last_step is not None
    assert llm.metrics.num_steps == 1
    assert llm.last_step.output.num_scheduled_tokens == {"0": len(PROMPT)}
    assert llm.last_step.forked == {"0": ["1_0", "2_0", "3_0"]}


@pytest.mark.parametrize(
    "options",
    [
        {"max_num_seqs": 2},
        {"max_num_seqs": 1, "enable_prefix_caching": False},
        {"num_blocks": 10},
        {"num_blocks": 10, "preemption_mode": "swap", "num_cpu_blocks": 30},
        {"max_num_batched_tokens": 3},
    ],
)
def test_answers_are_the_same_wherever_and_whenever_they_run(
    random_llm: Callable[..., LLM], options: dict[str, Any]
) -> None:
    params = SamplingParams(n=5, seed=3, max_tokens=12, temperature=1.2, top_k=30, min_p=0.001)
    expected = random_llm().generate(PROMPT, params)[0].outputs
    llm = random_llm(debug=True, **options)
    found = llm.generate([PROMPT, *OTHERS[:3]], params)[0].outputs
    assert [each.token_ids for each in found] == [each.token_ids for each in expected]
    alone = random_llm().generate(PROMPT, SamplingParams(**vars(params) | {"n": 1}))[0].outputs
    assert alone[0].token_ids == expected[0].token_ids


@pytest.mark.parametrize("mode", [{}, {"preemption_mode": "swap", "num_cpu_blocks": 60}])
def test_answers_are_the_same_for_those_who_give_way_to_more_important_ones(
    random_llm: Callable[..., LLM], mode: dict[str, Any]
) -> None:
    params = SamplingParams(n=2, seed=3, max_tokens=12, temperature=1.2, repetition_penalty=1.1)
    expected = [random_llm().generate(prompt, params)[0].outputs for prompt in OTHERS[:6]]
    llm = random_llm(num_blocks=16, policy="priority", debug=True, **mode)
    outputs = {}
    for index, prompt in enumerate(OTHERS[:6]):
        llm.add_request(str(index), prompt, params, priority=5 - index)
        outputs |= {output.request_id: output.outputs for output in llm.step()}
    while llm.has_unfinished_requests():
        outputs |= {output.request_id: output.outputs for output in llm.step()}
    for index, answers in enumerate(expected):
        tokens = [each.token_ids for each in outputs[str(index)]]
        assert tokens == [each.token_ids for each in answers]
    assert llm.metrics.num_preemptions > 0
    assert num_blocks_in_use(llm) == 0


# Chance


def test_a_sampled_answer_does_not_depend_on_its_company(random_llm: Callable[..., LLM]) -> None:
    params = [SamplingParams(seed=index, max_tokens=15, top_p=0.95) for index in range(len(OTHERS))]
    alone = [answer(random_llm(), *each).token_ids for each in zip(OTHERS, params, strict=True)]
    for options in ({}, {"max_num_seqs": 4}, {"num_blocks": 25}, {"max_num_batched_tokens": 9}):
        llm = random_llm(**options)
        together = llm.generate(OTHERS, params)
        assert [result.outputs[0].token_ids for result in together] == alone


def test_without_a_seed_answers_differ_and_engines_agree(random_llm: Callable[..., LLM]) -> None:
    params = SamplingParams(max_tokens=15)
    first, second = (
        [answer(llm, PROMPT, params).token_ids for _ in range(3)]
        for llm in (random_llm(seed=5), random_llm(seed=5))
    )
    assert first == second
    assert len({tuple(tokens) for tokens in first}) == 3
    assert answer(random_llm(seed=6), PROMPT, params).token_ids != first[0]


def test_a_repetition_penalty_looks_at_prompt_and_output(random_llm: Callable[..., LLM]) -> None:
    """An enormous one forbids every token that was there."""
    for options in ({}, {"num_blocks": 14}):
        llm = random_llm(**options)
        params = greedy(30, repetition_penalty=1e6)
        for result in llm.generate(OTHERS[:4], params):
            tokens = result.prompt_token_ids + result.outputs[0].token_ids
            assert len(set(tokens)) == len(tokens)


# What the cache saves


def test_a_system_prompt_is_computed_once_for_fifty_requests() -> None:
    llm = make_llm(num_blocks=1000, block_size=16)
    system = [5 + index % 200 for index in range(1000)]
    prompts = [[*system, 1000 + index, 7, 8] for index in range(50)]
    for index, prompt in enumerate(prompts):
        llm.add_request(str(index), prompt, greedy(2, ignore_eos=True))
    num_computed = 0
    outputs = {}
    while llm.has_unfinished_requests():
        outputs |= {output.request_id: output for output in llm.step()}
        assert llm.last_step is not None
        num_computed += llm.last_step.output.total_num_scheduled_tokens
    # 1,000 tokens are 62 blocks of 16 and 8 tokens, which each computes for itself.
    assert num_computed == 62 * 16 + 50 * (8 + 3) + 50
    assert [outputs[str(index)].num_cached_tokens for index in range(50)] == [0] + [992] * 49
    assert llm.metrics.prefix_cache_hits == 49 * 992


def test_without_prefix_caching_nothing_is_found(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm(enable_prefix_caching=False)
    results = [llm.generate(PROMPT, greedy())[0] for _ in range(2)]
    assert [result.num_cached_tokens for result in results] == [0, 0]


# Requests that cannot be served

BAD_PROMPTS: list[tuple[Any, str]] = [
    ([], "the prompt is empty; give at least one token"),
    ("", "the prompt is empty; give at least one character"),
    ([5, 128], r"the prompt has token 128; tokens are whole numbers from 0 to 127"),
    ([-1], "the prompt has token -1"),
    ([1.5], "the prompt has token 1.5"),
    (
        [5] * 30,
        r"30 tokens, and a sequence has at most 24 .*8 blocks of 4, .*has 6: .*num_blocks=9",
    ),
    ([5] * 600, r"600 tokens, and a sequence has at most 24 here.*: shorten it to 23$"),
    ([5] * 24, r"24 tokens, and a sequence has at most 24 .*7 blocks of 4, .*num_blocks=8 or more"),
    ("text", r"no tokenizer.json; give prompts as tokens"),
    ({}, "a prompt with the fields"),
    ({"text": "a"}, r"the fields \['text'\] is not understood; give a text, tokens, {\"prompt\""),
]


@pytest.mark.parametrize(("prompt", "message"), BAD_PROMPTS)
def test_a_prompt_that_cannot_be_served_is_refused_at_once_and_nothing_changes(
    random_llm: Callable[..., LLM], prompt: Any, message: str
) -> None:
    llm = random_llm(num_blocks=7)
    with pytest.raises(PromptError, match=message):
        llm.add_request("bad", prompt)
    with pytest.raises(PromptError, match=message):
        llm.generate_stream(prompt)
    # If one prompt is bad, none is served.
    with pytest.raises(PromptError, match=message):
        llm.generate([PROMPT, prompt, PROMPT], greedy())
    assert not llm.has_unfinished_requests()
    assert not llm.scheduler.requests
    assert llm.metrics.num_steps == 0
    assert len(answer(llm).token_ids) == 8


def test_without_chunks_a_prompt_larger_than_a_step_is_refused(
    random_llm: Callable[..., LLM],
) -> None:
    llm = random_llm(enable_chunked_prefill=False, max_num_batched_tokens=8)
    with pytest.raises(PromptError, match="11 tokens and a step has 8; raise max_num_bat"):
        llm.add_request("r", PROMPT)
    assert not llm.has_unfinished_requests()


def test_stop_strings_without_a_tokenizer_are_refused(random_llm: Callable[..., LLM]) -> None:
    with pytest.raises(PromptError, match=r"stop strings need text.*use stop_token_ids"):
        random_llm().generate(PROMPT, greedy(stop="END"))


def test_a_name_is_used_once_at_a_time(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm()
    llm.add_request("r", PROMPT, greedy(n=2))
    for name in ("r", "1_r"):
        with pytest.raises(ValueError, match=f"request '{name}' is not finished yet"):
            llm.add_request(name, PROMPT)
    while llm.has_unfinished_requests():
        llm.step()
    llm.add_request("r", PROMPT, greedy())
    assert llm.has_unfinished_requests()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_num_seq": 3}, TypeError, "no option 'max_num_seq'; for the scheduler: max_num_seqs"),
        ({"max_model_len": 513}, ValueError, "max_model_len is 513; .* at most 512 tokens"),
        ({"max_num_seqs": 0}, ValueError, "max_num_seqs is 0"),
        ({"policy": "shortest"}, ValueError, "no policy 'shortest'"),
        ({"num_blocks": 0}, ValueError, "num_blocks is 0"),
        ({"attention_backend": "cuda"}, ValueError, "no backend 'cuda'"),
    ],
)
def test_options_that_do_not_exist_or_fit_are_refused(
    random_llm: Callable[..., LLM], options: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        random_llm(**options)


# Aborts, interrupts, failures


def test_an_aborted_request_gives_everything_back_and_is_not_reported(
    random_llm: Callable[..., LLM],
) -> None:
    llm = random_llm(debug=True)
    expected = answer(llm, OTHERS[0], greedy(12)).token_ids
    llm.add_request("goes", PROMPT, greedy(50, n=3))
    llm.add_request("stays", OTHERS[0], greedy(12))
    llm.step(), llm.step()
    llm.abort_request(["goes", "unknown", "goes"])
    assert {request.request_id for request in llm.scheduler.running} == {"stays"}
    llm.abort_request("goes")
    reported = []
    while llm.has_unfinished_requests():
        reported += llm.step()
    assert {output.request_id for output in reported} == {"stays"}
    assert reported[-1].outputs[0].token_ids == expected
    assert llm.metrics.finished == {"stop": 0, "length": 2, "abort": 3}
    assert num_blocks_in_use(llm) == 0


def test_a_request_may_be_aborted_before_its_first_step(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm()
    llm.add_request("r", PROMPT, greedy(n=4))
    llm.abort_request("r")
    assert llm.step() == []
    assert not llm.scheduler.requests


def test_an_interrupt_comes_between_two_steps_and_the_engine_goes_on(
    random_llm: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = random_llm(debug=True)
    expected = [result.outputs[0].token_ids for result in llm.generate(OTHERS, greedy())]
    llm.kv_cache_manager.reset_prefix_cache()
    model = llm.executor.model
    compute, num_steps = model.forward, llm.metrics.num_steps

    def interrupted(*arguments: Any) -> Any:
        if llm.metrics.num_steps == num_steps + 2:
            signal.raise_signal(signal.SIGINT)
        return compute(*arguments)

    monkeypatch.setattr(model, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(OTHERS, greedy())
    # The step in which it came was brought to its end.
    assert llm.metrics.num_steps == num_steps + 3
    assert not llm.has_unfinished_requests()
    assert num_blocks_in_use(llm) == 0
    again = [result.outputs[0].token_ids for result in llm.generate(OTHERS, greedy())]
    assert again == expected


def test_interrupts_are_left_alone_outside_the_main_thread() -> None:
    handlers = []

    def look() -> None:
        with deferred_interrupts():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_a_step_that_fails_stops_the_engine_for_good(
    random_llm: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = random_llm()
    monkeypatch.setattr(llm.executor, "execute", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        llm.generate(OTHERS, greedy())
    assert caught.value.__notes__ == ["in step 0"]
    for call in (llm.step, lambda: llm.generate(PROMPT), lambda: llm.add_request("r", PROMPT)):
        with pytest.raises(EngineDeadError, match=r"has stopped: division by zero; make a new LLM"):
            call()
    llm.abort_request("r")


def test_debug_says_in_which_step_an_invariant_broke(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm(debug=True)
    llm.add_request("r", PROMPT, greedy(50))
    llm.step(), llm.step()
    llm.kv_cache_manager.block_pool.blocks[1].ref_cnt += 1
    with pytest.raises(InvariantError, match=r"^in step 2: after allocate_slots: block 1 has"):
        llm.generate(OTHERS[0])


def test_debug_sees_a_request_that_keeps_its_blocks(
    random_llm: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = random_llm(debug=True)
    monkeypatch.setattr(llm.kv_cache_manager, "free", lambda request: None)
    with pytest.raises(InvariantError, match=r"in step 0: 0 still holds blocks \[1, 2, 3\]"):
        llm.generate(PROMPT, greedy(1))
    assert invariants_module.find_leaks(llm.kv_cache_manager, [])


# What is counted


def test_metrics_count_what_happened(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm(num_blocks=25)
    llm.add_request("now", PROMPT, greedy(5))
    assert llm.metrics.num_requests_waiting == 1
    llm.step()
    assert llm.metrics.num_requests_running == 1
    assert llm.metrics.kv_cache_usage == pytest.approx(3 / 24)
    results = llm.generate(OTHERS, greedy(20))
    metrics = llm.metrics
    assert metrics.prompt_tokens == len(PROMPT) + sum(map(len, OTHERS))
    assert metrics.generation_tokens == 5 + 20 * len(OTHERS)
    assert metrics.finished == {"stop": 0, "length": 1 + len(OTHERS), "abort": 0}
    assert metrics.num_preemptions > 0
    assert metrics.num_preemptions == sum(
        result.metrics.num_preemptions for result in results if result.metrics
    )
    for histogram in (
        metrics.time_to_first_token,
        metrics.time_per_output_token,
        metrics.e2e_request_latency,
    ):
        assert histogram.count == 1 + len(OTHERS)
        assert histogram.cumulative()[-1] == histogram.count
    assert (metrics.num_requests_running, metrics.kv_cache_usage) == (0, 0.0)
    assert metrics.summary()["finished_length"] == 1 + len(OTHERS)


def test_the_times_of_a_request_are_in_order(random_llm: Callable[..., LLM]) -> None:
    [result] = random_llm().generate(PROMPT, greedy())
    times = result.metrics
    assert times is not None
    assert times.arrival_time <= times.first_scheduled_time <= times.first_token_time  # type: ignore[operator]
    assert times.first_token_time <= times.finished_time  # type: ignore[operator]
    assert 0 <= times.time_to_first_token <= times.e2e_latency  # type: ignore[operator]


def test_a_step_leaves_a_record(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm()
    assert llm.last_step is None
    llm.generate(PROMPT, greedy(3))
    record = llm.last_step
    assert record is not None
    assert (record.index, record.output.num_scheduled_tokens) == (2, {"0": 1})
    assert list(record.sampled) == list(record.answers) == ["0"]
    assert record.answers["0"].finish_reason == "length"
    times = [
        record.started,
        record.scheduled,
        record.computed,
        record.sampled_at,
        record.finished,
    ]
    assert times == sorted(times)


# Policies and devices


def test_a_more_important_request_overtakes(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm(policy="priority", max_num_seqs=1)
    llm.add_request("first", OTHERS[0], greedy(3), priority=1)
    llm.add_request("urgent", OTHERS[1], greedy(3), priority=0)
    ended = []
    while llm.has_unfinished_requests():
        ended += [output.request_id for output in llm.step() if output.finished]
    assert ended == ["urgent", "first"]


def test_a_policy_that_is_fair_to_clients_knows_whose_a_request_is(
    random_llm: Callable[..., LLM],
) -> None:
    llm = random_llm(policy="vtc", max_num_seqs=1)
    for name, client in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        llm.add_request(name, OTHERS[0], greedy(3), client_id=client)
    ended = []
    while llm.has_unfinished_requests():
        ended += [output.request_id for output in llm.step() if output.finished]
    assert ended == ["a1", "b1", "a2"]


def test_requests_with_different_salts_share_no_prefix(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm()
    prompt = list(range(20))
    cached = {}
    for name, salt in (("first", "red"), ("other", "blue"), ("same", "red")):
        llm.add_request(name, prompt, greedy(2), cache_salt=salt)
        while llm.has_unfinished_requests():
            cached |= {output.request_id: output.num_cached_tokens for output in llm.step()}
    assert cached["first"] == cached["other"] == 0
    assert cached["same"] > 0


def test_a_pool_of_the_null_block_alone_is_refused(random_llm: Callable[..., LLM]) -> None:
    with pytest.raises(ValueError, match="num_blocks is 1; block 0 is the null block"):
        random_llm(num_blocks=1)


def test_the_pool_is_sized_for_a_full_batch_within_the_memory_allowed(
    random_llm: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = random_llm(num_blocks=None, max_num_seqs=3, max_model_len=10)
    assert llm.kv_cache_manager.block_pool.num_blocks == 3 * 3 + 1
    # 2 (K, V) × 2 layers × 2 heads × 16 dims × 4 bytes are 512 bytes per token.
    monkeypatch.setattr("course_lib.engine.memory.CPU_KV_CACHE_BYTES", 5 * 4 * 512 + 100)
    assert random_llm(num_blocks=None).kv_cache_manager.block_pool.num_blocks == 5
    monkeypatch.setattr("course_lib.engine.memory.CPU_KV_CACHE_BYTES", 4000)
    with pytest.raises(ValueError, match="4,000 bytes are left for the KV cache, less than two"):
        random_llm(num_blocks=None)


def test_the_triton_kernels_give_the_same_tokens(random_llm: Callable[..., LLM]) -> None:
    if triton_state().mode == "unavailable":
        pytest.skip(triton_state().reason)
    expected = answer(random_llm(), PROMPT, greedy(3)).token_ids
    llm = random_llm(attention_backend="triton")
    assert answer(llm, PROMPT, greedy(3)).token_ids == expected
    assert llm.executor.backend.name == "triton"


def test_only_requests_that_run_hold_blocks(random_llm: Callable[..., LLM]) -> None:
    llm = random_llm(num_blocks=20, preemption_mode="swap", num_cpu_blocks=50)
    for index, prompt in enumerate(OTHERS):
        llm.add_request(str(index), prompt, greedy(20, n=2))
    while llm.has_unfinished_requests():
        llm.step()
        running = {r.request_id for r in llm.scheduler.running}
        assert llm.kv_cache_manager.block_tables().keys() == running
        assert all(r.status is RequestStatus.RUNNING for r in llm.scheduler.running)
        # Nor does the executor keep anything of those that have lost theirs.
        gone = {r.request_id for r in (*llm.scheduler.waiting, *llm.scheduler.swapped)}
        assert not gone & llm.executor.block_tables().keys()
    assert llm.metrics.num_preemptions > 0
