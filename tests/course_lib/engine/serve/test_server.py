"""The HTTP server, asked by OpenAI's own client where it can ask, else by hand."""

import asyncio
import contextlib
import json
import shutil
import socket
import threading
import time

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from course_lib.engine.engine import LLM
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.serve.async_engine import OutputStream
from course_lib.engine.serve.errors import MAX_BODY_BYTES
from course_lib.engine.serve.protocol import validation_error
from course_lib.engine.serve.server import Server, make_app
from course_lib.engine.tokenizer import checkpoint_folder

NAME = "course-tiny"
PROMPT = "The scheduler decides"
TIMEOUT = 30.0
GREEDY = {"temperature": 0, "max_tokens": 12}
VARIED = {"temperature": 2.0, "max_tokens": 40, "extra_body": {"ignore_eos": True}}
"""Random enough for two answers not to be the same by chance, however sure the model is."""
LONG = {"max_tokens": 200, "extra_body": {"ignore_eos": True}}


class Served:
    """A server in a thread of this process, and how to ask it."""

    def __init__(self, llm, **options):
        self.llm = llm
        self.app = make_app(llm, NAME, **options)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "http://{}:{}".format(*self.listener.getsockname())
        self.is_ready = threading.Event()
        self.server = Server(self.app, self.is_ready.set)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))

    def __enter__(self):
        self.thread.start()
        assert self.is_ready.wait(TIMEOUT)
        return self

    def __exit__(self, *exception):
        self.stop()

    def stop(self):
        self.server.should_exit = True
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive()

    def client(self, **options):
        options = {"api_key": "none", "max_retries": 0, "timeout": TIMEOUT} | options
        return openai.OpenAI(base_url=f"{self.address}/v1", **options)

    def async_client(self):
        return openai.AsyncOpenAI(
            base_url=f"{self.address}/v1", api_key="none", max_retries=0, timeout=TIMEOUT
        )

    def get(self, path, **options):
        return httpx.get(self.address + path, timeout=TIMEOUT, **options)

    def post(self, path, body, **options):
        return httpx.post(self.address + path, json=body, timeout=TIMEOUT, **options)

    def metrics(self):
        """Every figure without labels of its own, by name."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        return {
            sample.name: sample.value
            for family in families
            for sample in family.samples
            if sample.labels == {"model_name": NAME}
        }

    def until(self, condition):
        deadline = time.monotonic() + TIMEOUT
        while not condition(self.metrics()):
            assert time.monotonic() < deadline, self.metrics()
            time.sleep(0.01)

    def until_idle(self):
        """Wait until nothing runs and nothing waits, and no block is held by anybody."""
        self.until(
            lambda now: (
                now["vllm:num_requests_running"] == now["vllm:num_requests_waiting"] == 0
                and now["vllm:kv_cache_usage_perc"] == 0
            )
        )
        assert not self.llm.has_unfinished_requests()
        pool = self.llm.kv_cache_manager.block_pool
        assert pool.get_num_free_blocks() == pool.num_blocks - 1
        assert all(block.ref_cnt == 0 for block in pool.blocks[1:])


def make_llm(**options):
    return LLM(NAME, num_blocks=1500, **options)


@pytest.fixture(scope="module")
def served():
    with Served(make_llm()) as served:
        yield served


@pytest.fixture(scope="module")
def client(served):
    return served.client()


@pytest.fixture(scope="module")
def reference():
    """The same model, asked without a server."""
    return make_llm()


@pytest.fixture
def slowly(served, monkeypatch):
    """Let every step take at least 10 ms, so that there is a midway."""
    step = served.llm.step

    def slow_step():
        time.sleep(0.01)
        return step()

    monkeypatch.setattr(served.llm, "step", slow_step)


def chat(text):
    return [{"role": "user", "content": text}]


class TestModels:
    def test_the_one_model_is_listed(self, client):
        assert [model.id for model in client.models.list()] == [NAME]
        assert client.models.retrieve(NAME).id == NAME

    def test_another_one_is_not_found(self, client):
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("gpt-5")
        assert caught.value.code == "model_not_found"


class TestCompletions:
    def test_text_and_counts_are_those_of_the_engine(self, client, reference):
        answer = client.completions.create(model=NAME, prompt=PROMPT, **GREEDY)
        [expected] = reference.generate(PROMPT, SamplingParams(**GREEDY))
        assert answer.choices[0].text == expected.outputs[0].text
        assert answer.choices[0].finish_reason == expected.outputs[0].finish_reason
        assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
        assert answer.usage.completion_tokens == len(expected.outputs[0].token_ids)
        assert answer.usage.total_tokens == sum(
            (answer.usage.prompt_tokens, answer.usage.completion_tokens)
        )

    def test_a_completion_has_16_tokens_unless_told_otherwise(self, client):
        answer = client.completions.create(
            model=NAME, prompt=PROMPT, extra_body={"ignore_eos": True}
        )
        assert answer.usage.completion_tokens == 16
        assert answer.choices[0].finish_reason == "length"

    def test_what_the_makers_recommend_holds_where_nothing_is_said(self, served, reference):
        [expected] = reference.generate(PROMPT, SamplingParams(temperature=0, max_tokens=5))
        recommended = {"temperature": 0.0, "max_tokens": 5}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(served.llm, "sampling_defaults", recommended)
            for fields, num_tokens in (({}, 5), ({"max_tokens": 3}, 3)):
                answer = served.post(*completion(prompt=PROMPT, **fields)).json()
                assert answer["usage"]["completion_tokens"] == num_tokens
                assert expected.outputs[0].text.startswith(answer["choices"][0]["text"])
            answer = served.post(*conversation(ignore_eos=True)).json()
            assert answer["usage"]["completion_tokens"] == 5
            asked = {"prompt": PROMPT, "temperature": 2.0, "ignore_eos": True, "n": 5}
            choices = served.post(*completion(**asked)).json()["choices"]
            assert len({choice["text"] for choice in choices}) > 1

    def test_the_pieces_of_a_stream_are_the_whole(self, client):
        asked = {"model": NAME, "prompt": PROMPT, "seed": 7, "n": 3, **VARIED}
        whole = client.completions.create(**asked)
        texts = ["", "", ""]
        reasons = [None, None, None]
        for chunk in client.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                assert reasons[choice.index] is None  # nothing comes behind the end
                texts[choice.index] += choice.text
                reasons[choice.index] = choice.finish_reason
        assert texts == [choice.text for choice in whole.choices]
        assert reasons == [choice.finish_reason for choice in whole.choices]
        assert len(set(texts)) == 3

    def test_choices_of_several_prompts_are_numbered_through(self, client, reference):
        prompts = ["A block", "A table of blocks", "The queue"]
        answer = client.completions.create(model=NAME, prompt=prompts, n=2, **GREEDY)
        expected = reference.generate(prompts, SamplingParams(**GREEDY, n=2))
        assert [choice.index for choice in answer.choices] == list(range(6))
        assert [choice.text for choice in answer.choices] == [
            output.text for each in expected for output in each.outputs
        ]

    def test_prompts_may_be_tokens(self, client, reference):
        ids = reference.tokenizer.encode(PROMPT)
        as_text, as_ids, as_list = (
            client.completions.create(model=NAME, prompt=prompt, **GREEDY)
            for prompt in (PROMPT, ids, [ids])
        )
        assert as_text.choices == as_ids.choices == as_list.choices

    def test_an_event_is_one_line_whatever_ends_lines_elsewhere(self, served, client):
        prompt = "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven\r\neight"
        asked = {"model": NAME, "prompt": prompt, **GREEDY}
        [alone] = client.completions.create(**asked).choices
        chunks = client.completions.create(**asked, echo=True, stream=True)
        assert "".join(chunk.choices[0].text for chunk in chunks) == prompt + alone.text
        body = served.post("/v1/completions", asked | {"echo": True, "stream": True})
        lines = [line for line in body.text.splitlines() if line]
        assert all(line.startswith("data: ") for line in lines)
        events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        assert "".join(event["choices"][0]["text"] for event in events) == prompt + alone.text

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_echo_stands_in_front_of_the_text_once(self, client, stream):
        asked = {"model": NAME, "prompt": PROMPT, **GREEDY}
        alone = client.completions.create(**asked).choices[0].text
        echoed = client.completions.create(**asked, echo=True, stream=stream)
        text = "".join(c.choices[0].text for c in echoed) if stream else echoed.choices[0].text
        assert text == PROMPT + alone

    def test_a_stop_string_ends_the_text_in_front_of_it(self, client):
        asked = {"model": NAME, "prompt": PROMPT, "temperature": 0, "max_tokens": 40}
        whole = client.completions.create(**asked).choices[0].text
        stop = whole[len(whole) // 2 :][:3]
        choice = client.completions.create(**asked, stop=stop).choices[0]
        assert choice.text == whole[: whole.index(stop)]
        assert (choice.finish_reason, choice.stop_reason) == ("stop", stop)

    def test_a_seed_gives_the_same_text_whoever_else_is_served(self, served, client):
        asked = {"model": NAME, "prompt": PROMPT, "seed": 5, **VARIED}
        alone = client.completions.create(**asked).choices[0].text

        async def crowd():
            async with served.async_client() as client:
                answers = [client.completions.create(**asked | {"seed": i}) for i in range(12)]
                return await asyncio.gather(*answers)

        texts = [answer.choices[0].text for answer in asyncio.run(crowd())]
        assert texts[5] == alone
        assert len(set(texts)) == 12

    @pytest.mark.parametrize("stream", [False, True])
    def test_logprobs_are_those_of_the_engine(self, client, reference, stream):
        asked = {"model": NAME, "prompt": PROMPT, **GREEDY, "logprobs": 3}
        answer = client.completions.create(**asked, stream=stream)
        pieces = [c.choices[0] for c in answer] if stream else answer.choices
        [expected] = reference.generate(PROMPT, SamplingParams(**GREEDY, logprobs=3))
        output = expected.outputs[0]
        own = [each[i] for i, each in zip(output.token_ids, output.logprobs, strict=True)]
        tokens = [token for piece in pieces for token in piece.logprobs.tokens]
        assert tokens == [each.decoded_token for each in own]
        values = [value for piece in pieces for value in piece.logprobs.token_logprobs]
        assert values == pytest.approx([each.logprob for each in own], abs=1e-4)
        tops = [top for piece in pieces for top in piece.logprobs.top_logprobs]
        assert [max(top.values()) for top in tops] == values  # greedy takes the best
        offsets = [offset for piece in pieces for offset in piece.logprobs.text_offset]
        assert offsets == [len("".join(tokens[:i])) for i in range(len(tokens))]

    def test_prompts_that_begin_alike_are_found_in_the_cache(self, client):
        asked = {"model": NAME, "prompt": "Cached " * 40, "max_tokens": 1}
        client.completions.create(**asked)
        details = client.completions.create(**asked).usage.prompt_tokens_details
        assert details.cached_tokens > 0
        assert details.cached_tokens % 16 == 0


class TestChat:
    def test_the_answer_is_the_engines_answer_to_the_same_messages(self, client, reference):
        answer = client.chat.completions.create(model=NAME, messages=chat("Hello"), **GREEDY)
        [expected] = reference.chat(chat("Hello"), SamplingParams(**GREEDY))
        assert answer.choices[0].message.role == "assistant"
        assert answer.choices[0].message.content == expected.outputs[0].text
        assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)

    def test_the_pieces_of_a_stream_are_the_whole_and_usage_comes_last(self, client):
        asked = {"model": NAME, "messages": chat("Hello"), "seed": 3, "n": 2, **VARIED}
        whole = client.chat.completions.create(**asked)
        chunks = list(
            client.chat.completions.create(
                **asked, stream=True, stream_options={"include_usage": True}
            )
        )
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
        texts = ["", ""]
        for chunk in chunks[:-1]:
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
        assert texts == [choice.message.content for choice in whole.choices]
        assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant"] * 2

    def test_an_answer_may_fill_the_context_unless_told_otherwise(self):
        with Served(make_llm(max_model_len=100)) as served:
            answer = served.client().chat.completions.create(
                model=NAME, messages=chat("Hello"), extra_body={"ignore_eos": True}
            )
        assert answer.usage.total_tokens == 100
        assert answer.choices[0].finish_reason == "length"

    def test_the_newer_name_of_max_tokens_goes_first(self, client):
        answer = client.chat.completions.create(
            model=NAME,
            messages=chat("Hello"),
            max_completion_tokens=3,
            max_tokens=9,
            extra_body={"ignore_eos": True},
        )
        assert answer.usage.completion_tokens == 3

    def test_the_parts_of_a_message_are_one_text(self, client):
        parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
        one, several = (
            client.chat.completions.create(
                model=NAME, messages=[{"role": "user", "content": content}], **GREEDY
            )
            for content in ("Hello", parts)
        )
        assert one.choices == several.choices

    def test_an_answer_may_be_sent_back_as_it_came(self, client):
        conversation = chat("Hello")
        first = client.chat.completions.create(model=NAME, messages=conversation, **GREEDY)
        message = first.choices[0].message
        answers = [
            client.chat.completions.create(
                model=NAME, messages=[*conversation, sent, *chat("And?")], **GREEDY
            )
            for sent in (
                {"role": "assistant", "content": message.content},
                message,
                message.model_dump(),
                message.model_dump() | {"tool_calls": [], "annotations": []},
            )
        ]
        assert all(answer.choices == answers[0].choices for answer in answers)

    def test_the_bytes_of_all_tokens_are_those_of_the_answer(self, client):
        asked = {"model": NAME, "messages": chat("€ 文 🙂"), "logprobs": True, "top_logprobs": 3}
        num_parts = 0
        for seed in range(4):
            [choice] = client.chat.completions.create(
                **asked, temperature=50.0, max_tokens=60, seed=seed, extra_body={"ignore_eos": True}
            ).choices
            data = b"".join(bytes(token.bytes) for token in choice.logprobs.content)
            special = (b"<|bos|>", b"<|end|>", b"<|user|>", b"<|assistant|>", b"<|system|>")
            for name in special:
                data = data.replace(name, b"")
            assert data.decode(errors="replace") == choice.message.content
            for token in choice.logprobs.content:
                num_parts += token.token != bytes(token.bytes).decode(errors="ignore")
                assert len(token.top_logprobs) == 3
        assert num_parts > 0

    @pytest.mark.parametrize("num_top", [0, 1, 4])
    def test_there_are_as_many_top_logprobs_as_were_asked_for(self, client, num_top):
        answer = client.chat.completions.create(
            model=NAME,
            messages=chat("Hello"),
            logprobs=True,
            top_logprobs=num_top,
            seed=1,
            max_tokens=8,
        )
        content = answer.choices[0].logprobs.content
        assert len(content) == answer.usage.completion_tokens
        for token in content:
            assert len(token.top_logprobs) == num_top
            assert all(top.logprob >= token.logprob for top in token.top_logprobs[:1])
            assert bytes(token.bytes).decode() == token.token


def completion(**fields):
    return "/v1/completions", {"model": NAME, "prompt": "a"} | fields


def conversation(**fields):
    return "/v1/chat/completions", {"model": NAME, "messages": chat("a")} | fields


class TestErrors:
    @pytest.mark.parametrize(
        ("request_", "status", "param", "code", "words"),
        [
            (completion(model="gpt-5"), 404, "model", "model_not_found", "this server has"),
            (conversation(model="gpt-5"), 404, "model", "model_not_found", "this server has"),
            (completion(prompt=""), 400, "prompt", None, "the prompt is empty"),
            (completion(prompt=[]), 400, "prompt", None, "the prompt is empty"),
            (completion(prompt=[[]]), 400, "prompt", "invalid_prompt", "the prompt is empty"),
            (completion(prompt=["a", ""]), 400, "prompt", None, "the prompt is empty"),
            (completion(prompt=[10**6]), 400, "prompt", "invalid_prompt", "has token 1000000"),
            (completion(prompt=["a", 1]), 400, "prompt", None, "a list of token ids"),
            (completion(prompt=None), 400, "prompt", None, "a list of token ids"),
            (
                completion(prompt="word " * 9000),
                400,
                "prompt",
                "context_length_exceeded",
                "a sequence has at most",
            ),
            (
                conversation(messages=chat("word " * 9000)),
                400,
                "messages",
                "context_length_exceeded",
                "a sequence has at most",
            ),
            (conversation(messages=[]), 400, "messages", None, "send at least one"),
            (conversation(messages="hi"), 400, "messages", None, "list"),
            (
                conversation(messages=[{"role": "user"}]),
                400,
                "messages",
                None,
                "messages.0.content: it is missing",
            ),
            (completion(temperature=-1), 400, "temperature", None, "it must be 0 or more"),
            (completion(top_p=0), 400, "top_p", None, "it must be above 0"),
            (completion(max_tokens=0), 400, "max_tokens", None, "it must be at least 1"),
            (completion(max_tokens="9"), 400, "max_tokens", None, "integer"),
            (
                conversation(max_completion_tokens=0),
                400,
                "max_completion_tokens",
                None,
                "max_completion_tokens is 0; it must be at least 1",
            ),
            (completion(max_tokens=10**30), 400, "max_tokens", "context_length_exceeded", "fewer"),
            (completion(temperature="1"), 400, "temperature", None, "number"),
            (completion(top_k=-2), 400, "top_k", None, "at least 1, or 0 or -1"),
            (completion(logprobs=-1), 400, "logprobs", None, "0 or more"),
            (completion(logprobs=True), 400, "logprobs", None, "integer"),
            (completion(stop=[None]), 400, "stop", None, "stop.0"),
            (completion(stop_token_ids=[None]), 400, "stop_token_ids", None, "stop_token_ids.0"),
            (completion(prompt_logprobs=0), 400, "prompt_logprobs", None, "not support"),
            (completion(suffix="end"), 400, "suffix", None, "not support"),
            (completion(truncate_prompt_tokens=5), 400, "truncate_prompt_tokens", None, "leave it"),
            (completion(n=0), 400, "n", None, "it must be at least 1"),
            (completion(n=129), 400, "n", None, "128"),
            (completion(stop=""), 400, "stop", None, "strings that are not empty"),
            (completion(logprobs=21), 400, "logprobs", None, "20"),
            (completion(echo=True, logprobs=1), 400, "echo", None, "does not go with logprobs"),
            (conversation(top_logprobs=1), 400, "top_logprobs", None, "needs logprobs"),
            (completion(stream_options={}), 400, "stream_options", None, "needs stream"),
            (completion(priority=1), 400, "priority", None, "--policy priority"),
            (completion(frequency_penalty=0.5), 400, "frequency_penalty", None, "not support"),
            (completion(logit_bias={"5": 1}), 400, "logit_bias", None, "not support"),
            (completion(best_of=2), 400, "best_of", None, "not support"),
            (completion(temprature=1), 400, "temprature", None, "no such field"),
            (conversation(tools=[{"type": "function"}]), 400, "tools", None, "not support"),
            (
                conversation(response_format={"type": "json_object"}),
                400,
                "response_format",
                None,
                "not support",
            ),
        ],
    )
    def test_what_cannot_be_served_is_said_with_its_field(
        self, served, request_, status, param, code, words
    ):
        answer = served.post(*request_)
        error = answer.json()["error"]
        assert answer.status_code == status
        assert (error["param"], error["code"]) == (param, code)
        assert words in error["message"]
        assert error["type"] == "invalid_request_error"

    def test_a_request_says_whose_it_is_and_with_whom_it_shares(self, served, monkeypatch):
        known = []
        add = served.llm.add_request

        def noting(*arguments, **keywords):
            known.append(keywords)
            add(*arguments, **keywords)

        monkeypatch.setattr(served.llm, "add_request", noting)
        for fields in ({"user": "ada", "cache_salt": "red"}, {}):
            assert served.post(*completion(max_tokens=1, **fields)).status_code == 200
        assert [(each["client_id"], each["cache_salt"]) for each in known] == [
            ("ada", "red"),
            ("", None),
        ]

    @pytest.mark.parametrize(
        "fields",
        [
            {"frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "best_of": 1},
            {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
            {"temperature": None, "n": None, "stop": None, "stream": None, "suffix": None},
        ],
    )
    def test_fields_that_change_nothing_are_welcome(self, served, fields):
        assert served.post(*completion(max_tokens=1, **fields)).status_code == 200

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"{", "is not JSON"),
            (b"\xff", "in UTF-8, not compressed"),
            (b"\x1f\x8b\x08\x00", "in UTF-8, not compressed"),
            (b'{"prompt": "a", "seed": ' + b"1" * 5000 + b"}", "at most 4300 digits"),
            (b'{"prompt": "a", "top_p": NaN}', "top_p is nan"),
            (b'{"prompt": "a", "min_p": -Infinity}', "min_p is -inf"),
            (b'{"prompt": "a", "temperature": 1e400}', "temperature is inf"),
            (b'{"prompt": "a"}{}', "is not JSON"),
            (b"", "a JSON object"),
            (b"[1]", "a JSON object"),
            (b'{"prompt": "\\ud800"}', "in Unicode"),
            (b'{"prompt": "a", "temperature": NaN}', "temperature is nan"),
            (b'{"prompt": ' + b"[" * 100_000, "no deep nesting"),
            (b'{"prompt": "a", "stop": "\\ud800"}', "not Unicode"),
        ],
    )
    def test_a_malformed_body_is_a_bad_request(self, served, body, words):
        answer = httpx.post(
            f"{served.address}/v1/completions",
            content=body,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]

    def test_numbers_of_any_size_are_numbers(self, served):
        for fields in (
            {"seed": 10**40},
            {"seed": -(10**40)},
            {"top_k": 10**30},
            {"top_p": 1e-320},
            {"min_p": 1e-320},
            {"temperature": 1e308},
            {"temperature": 1e-320},
            {"repetition_penalty": 1e308, "logprobs": 2},
            {"repetition_penalty": 1e-320, "logprobs": 2},
            {"stop_token_ids": [-5, 10**30]},
        ):
            assert served.post(*completion(max_tokens=2, **fields)).status_code == 200, fields

    def test_one_connection_serves_bodies_of_every_kind_one_after_the_other(self, served):
        good = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
        as_json = {"Content-Type": "application/json"}
        with httpx.Client(base_url=served.address, timeout=TIMEOUT) as connection:
            for content, headers, status in (
                (good, as_json, 200),
                (good, {"Content-Type": "application/json; charset=utf-8"}, 200),
                (good, {"Content-Type": "text/plain"}, 400),
                (good, {"Content-Type": "application/x-www-form-urlencoded"}, 400),
                (good, {}, 400),
                (iter([good[:9], b"", good[9:]]), as_json, 200),
                (b"\xef\xbb\xbf" + good, as_json, 200),
                (b"{", as_json, 400),
                (good + b" " * 2**20, as_json, 200),
                (good, as_json | {"X-Long": "a" * 20_000}, 200),
            ):
                answer = connection.post("/v1/completions", content=content, headers=headers)
                assert answer.status_code == status, (content, headers)
                assert status == 200 or answer.json()["error"]["message"]

    @pytest.mark.parametrize("includes", [True, False, None])
    @pytest.mark.parametrize("ask", [completion, conversation])
    def test_usage_is_null_in_every_chunk_but_the_last_for_who_asks(self, served, ask, includes):
        path, body = ask(max_tokens=3, stream=True, stream_options={"include_usage": includes})
        events = served.post(path, body).text.split("\n\n")
        chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
        assert events[-2] == "data: [DONE]"
        if not includes:
            assert not any("usage" in chunk for chunk in chunks)
            return
        assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        last = chunks[-1]["usage"]
        assert last["prompt_tokens"] + last["completion_tokens"] == last["total_tokens"]

    def test_an_oversize_body_is_refused_before_it_is_read(self, served):
        with socket.create_connection(served.listener.getsockname(), TIMEOUT) as connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)
            )
            head, _, body = connection.makefile("rb").read(4096).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413")
        assert "send a shorter prompt" in json.loads(body)["error"]["message"]

    def test_an_oversize_body_that_does_not_say_so_is_refused_while_it_is_read(self, served):
        pieces = (b"a" * 2**20 for _ in range(MAX_BODY_BYTES // 2**20 + 1))
        answer = httpx.post(
            f"{served.address}/v1/completions",
            content=pieces,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 413
        assert "send a shorter prompt" in answer.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/completions", 405)]
    )
    def test_an_unknown_address_is_an_error_in_the_same_form(self, served, method, path, status):
        answer = httpx.request(method, served.address + path)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]

    def test_a_prompt_that_is_too_long_says_what_it_would_take(self, client, served):
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model=NAME, prompt=[5] * 20_000)
        assert caught.value.code == "context_length_exceeded"
        assert "20000 tokens" in caught.value.message

    def test_an_answer_that_would_not_fit_says_how_much_room_there_is(self, served):
        longest = served.llm.scheduler.max_model_len
        prompts = [[5], [5] * (longest - 3)]
        answer = served.post(*completion(prompt=prompts, max_tokens=4))
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == ("max_tokens", "context_length_exceeded")
        assert "max_tokens is 4, and this prompt leaves 3 tokens" in error["message"]
        answer = served.post(*conversation(max_completion_tokens=longest))
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "max_completion_tokens"

    @pytest.mark.parametrize(
        ("num_left", "fields", "num_tokens"),
        [(3, {"max_tokens": 3}, 3), (3, {}, 3), (1, {"max_tokens": 1}, 1), (20, {}, 16)],
    )
    def test_an_answer_may_fill_the_context(self, served, num_left, fields, num_tokens):
        prompt = [5] * (served.llm.scheduler.max_model_len - num_left)
        answer = served.post(*completion(prompt=prompt, ignore_eos=True, **fields))
        assert answer.json()["usage"]["completion_tokens"] == num_tokens

    @pytest.mark.parametrize("fields", [{}, {"max_tokens": 1}, {"max_tokens": 10**6}])
    def test_a_prompt_that_fills_the_context_is_too_long(self, served, fields):
        prompt = [5] * served.llm.scheduler.max_model_len
        answer = served.post(*completion(prompt=prompt, **fields))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
        assert (error["param"], "shorten it to" in error["message"]) == ("prompt", True)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("token_id", [-1, 2048, 10**6, 2**31, 2**32, 2**63, 10**40])
    def test_an_echo_of_a_token_that_does_not_exist_is_a_bad_request(
        self, served, token_id, stream
    ):
        for prompt in ([5, token_id], [[5], [token_id]]):
            answer = served.post(*completion(prompt=prompt, echo=True, stream=stream))
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, "prompt")
            assert f"has token {token_id}" in error["message"]

    def test_nothing_of_this_is_left_behind(self, served):
        served.until_idle()


def test_a_model_without_a_tokenizer_takes_token_ids(tmp_path):
    for file in checkpoint_folder(NAME).iterdir():
        if not file.name.startswith("tokenizer"):
            shutil.copy(file, tmp_path)
    with Served(LLM(tmp_path, num_blocks=100)) as served:
        assert served.post(*completion(prompt=[5, 6])).status_code == 200
        for request_ in (completion(prompt="a"), conversation()):
            answer = served.post(*request_)
            assert answer.status_code == 400
            assert "send token ids to /v1/completions" in answer.json()["error"]["message"]


class TestWhoMayAsk:
    def test_another_name_for_this_machine_is_refused(self, served):
        for host, status in (("evil.example", 400), ("localhost:1", 200), ("127.0.0.1", 200)):
            assert served.get("/v1/models", headers={"Host": host}).status_code == status

    def test_a_web_page_elsewhere_cannot_post_without_asking_first(self, served):
        # A browser sends text/plain to another site without asking; JSON it does not.
        answer = httpx.post(
            f"{served.address}/v1/completions",
            content=json.dumps(completion()[1]),
            headers={"Content-Type": "text/plain", "Origin": "https://evil.example"},
        )
        assert answer.status_code == 400
        asked = httpx.options(
            f"{served.address}/v1/completions",
            headers={
                "Origin": "https://evil.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            },
        )
        assert asked.status_code == 405
        assert "access-control-allow-origin" not in asked.headers

    def test_with_a_key_only_those_who_have_it(self, reference):
        with Served(reference, api_key="a secret") as served:
            with pytest.raises(openai.AuthenticationError) as caught:
                served.client(api_key="a guess").completions.create(model=NAME, prompt="a")
            assert caught.value.code == "invalid_api_key"
            assert served.get("/v1/models").status_code == 401
            assert httpx.post(f"{served.address}/v1/completions", content="{").status_code == 401
            assert served.get("/nowhere").status_code == 401
            served.client(api_key="a secret").completions.create(model=NAME, prompt="a")
            assert served.get("/health").status_code == 200
            assert served.get("/metrics").status_code == 200


class TestClientsThatGoAway:
    def test_a_stream_that_is_dropped_is_aborted(self, served, client, slowly):
        served.until_idle()
        stream = client.completions.create(model=NAME, prompt=PROMPT, stream=True, **LONG)
        next(iter(stream))
        assert served.metrics()["vllm:num_requests_running"] == 1
        before = served.metrics()["vllm:generation_tokens_total"]
        stream.close()
        served.until_idle()
        assert served.metrics()["vllm:generation_tokens_total"] - before < 100

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_client_that_hangs_up_before_the_answer_is_aborted(self, served, slowly, stream):
        served.until_idle()
        body = json.dumps(
            {"prompt": PROMPT, "max_tokens": 400, "ignore_eos": True, "n": 3, "stream": stream}
        ).encode()
        with socket.create_connection(served.listener.getsockname()) as connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            served.until(lambda now: now["vllm:num_requests_running"] == 3)
            before = served.metrics()["vllm:generation_tokens_total"]
        served.until_idle()
        assert served.metrics()["vllm:generation_tokens_total"] - before < 600

    def test_200_at_once_of_which_50_leave_midway_leave_no_block_behind(self, served, slowly):
        served.until_idle()
        before = served.metrics()

        async def ask(client, number):
            stream = await client.completions.create(
                model=NAME,
                prompt=f"{number} {PROMPT}" + " and so on" * (number % 7),
                stream=True,
                max_tokens=30,
                seed=number,
                n=1 + (number % 10 == 3),
                extra_body={"ignore_eos": True},
            )
            num_chunks = 0
            reasons = set()
            async with stream:
                async for chunk in stream:
                    num_chunks += 1
                    reasons.add(chunk.choices[0].finish_reason)
                    if number % 4 == 0 and num_chunks == 1 + number % 9:
                        return None
            return reasons

        async def everybody():
            async with served.async_client() as client:
                return await asyncio.gather(*(ask(client, number) for number in range(200)))

        answers = asyncio.run(everybody())
        assert answers.count(None) == 50
        assert all("length" in answer for answer in answers if answer is not None)
        served.until_idle()
        after = served.metrics()
        finished = "vllm:e2e_request_latency_seconds_count"
        assert after[finished] - before[finished] == 150

    def test_a_client_that_does_not_read_holds_nobody_up(self, served, client):
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stream = client.completions.create(model=NAME, prompt=PROMPT, stream=True, **LONG)
                stack.enter_context(stream)
            answer = client.completions.create(model=NAME, prompt=PROMPT, **GREEDY)
            assert answer.usage.completion_tokens > 0
        served.until_idle()


class TestOperation:
    def test_figures_have_vllms_names_and_count_what_was_served(self, served, client):
        served.until_idle()
        before = served.metrics()
        answer = client.completions.create(
            model=NAME, prompt=PROMPT, max_tokens=9, n=2, extra_body={"ignore_eos": True}
        )
        after = served.metrics()
        grown = {name: after[name] - before[name] for name in after}
        assert grown["vllm:prompt_tokens_total"] == answer.usage.prompt_tokens
        assert grown["vllm:generation_tokens_total"] == 18
        assert grown["vllm:time_to_first_token_seconds_count"] == 1
        assert grown["vllm:e2e_request_latency_seconds_count"] == 1
        assert grown["vllm:request_time_per_output_token_seconds_count"] == 1
        assert 0 < grown["vllm:time_to_first_token_seconds_sum"] < TIMEOUT
        assert grown["vllm:prefix_cache_queries_total"] >= answer.usage.prompt_tokens

    def test_buckets_are_cumulative_and_end_with_all(self, served):
        families = text_string_to_metric_families(served.get("/metrics").text)
        histograms = [family for family in families if family.type == "histogram"]
        assert len(histograms) == 3
        for family in histograms:
            buckets = [s.value for s in family.samples if s.name.endswith("_bucket")]
            [count] = [s.value for s in family.samples if s.name.endswith("_count")]
            assert buckets == sorted(buckets)
            assert buckets[-1] == count

    def test_finished_answers_are_counted_by_reason(self, served, client):
        def num_aborted():
            families = text_string_to_metric_families(served.get("/metrics").text)
            samples = [sample for family in families for sample in family.samples]
            [value] = [s.value for s in samples if s.labels.get("finished_reason") == "abort"]
            return value

        before = num_aborted()
        client.completions.create(model=NAME, prompt=PROMPT, stream=True, **LONG).close()
        served.until_idle()
        assert num_aborted() in (before, before + 1)  # it may have been faster

    def test_a_server_that_is_stopped_tells_those_who_wait(self, monkeypatch):
        llm = make_llm()
        step = llm.step
        steps = []

        def slow_step():
            steps.append(time.sleep(0.05))
            return step()

        monkeypatch.setattr(llm, "step", slow_step)
        with Served(llm) as served:
            stream = served.client().completions.create(
                model=NAME, prompt=PROMPT, stream=True, **LONG
            )
            next(iter(stream))
            before = len(steps)
            served.stop()
            # Of the 200 that the answer would take.
            assert len(steps) - before < 80
            with pytest.raises(openai.APIError, match="is shutting down"):
                list(stream)
        assert not llm.has_unfinished_requests()
        assert llm.kv_cache_manager.usage == 0

    def test_a_broken_engine_answers_everybody_with_an_error(self, monkeypatch, caplog):
        llm = make_llm()
        with Served(llm) as served:
            client = served.client()
            assert served.get("/health").status_code == 200

            def broken():
                raise ZeroDivisionError("a part is broken")

            monkeypatch.setattr(llm.scheduler, "schedule", broken)
            with pytest.raises(openai.APIError, match="a part is broken"):
                list(client.completions.create(model=NAME, prompt="a", stream=True))
            with pytest.raises(openai.InternalServerError, match="a part is broken") as caught:
                client.completions.create(model=NAME, prompt="a")
            assert caught.value.code == "engine_dead"
            health = served.get("/health")
            assert health.status_code == 503
            assert "a part is broken" in health.json()["error"]["message"]
            assert served.get("/metrics").status_code == 200

    def test_a_defect_is_an_error_in_the_same_form(self, served, monkeypatch):
        monkeypatch.setattr(OutputStream, "__anext__", lambda self: 1 / 0)
        answer = served.post(*completion())
        assert answer.status_code == 500
        assert "ZeroDivisionError" in answer.json()["error"]["message"]
        monkeypatch.undo()
        served.until_idle()


def test_the_place_of_an_error_in_a_body_is_a_path():
    found = {"type": "int_type", "loc": ("body", "stop_token_ids", 1), "msg": "no integer"}
    error = validation_error([found])
    assert str(error) == "stop_token_ids.1: no integer"
    assert error.body["error"]["param"] == "stop_token_ids"
