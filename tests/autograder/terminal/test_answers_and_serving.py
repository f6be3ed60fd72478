"""course generate and course serve, as they are typed: the real command, a real client."""

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise

import httpx
import openai
import psutil
import pytest

from autograder import cli
from autograder.errors import CourseError
from autograder.terminal import answers as answers_module
from autograder.terminal import serving as serving_module
from autograder.terminal.answers import Speed, generate, load_llm, read_prompt, sampling_params
from autograder.terminal.serving import Address
from course_lib.engine import EngineParts
from course_lib.engine.outputs import CompletionOutput, RequestOutput
from course_lib.engine.tokenizer import checkpoint_folder
from course_lib.scheduling import Scheduler

COURSE = [sys.executable, "-c", "from autograder.cli import main; main()"]
TIMEOUT = 60.0


class Screen(io.StringIO):
    """A terminal that remembers everything."""

    def isatty(self):
        return True


@pytest.fixture(scope="module")
def llm():
    return load_llm("course-tiny", num_blocks=300, max_num_seqs=None)


@pytest.fixture
def course(monkeypatch, capsys):
    """Run the command line as the console script does; return exit code, stdout and stderr."""

    def course(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["course", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return course


@pytest.fixture
def start(tmp_path):
    """Start ``course`` with some arguments; what still runs is killed in the end."""
    started = []

    def start(*arguments, **variables):
        process = subprocess.Popen(
            [*COURSE, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "TERM": "dumb", "OMP_NUM_THREADS": "1", **variables},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def next_line(process):
    """Return the next line that a process prints, or fail with what it said instead."""
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    line = process.stdout.readline()
    watchdog.cancel()
    if not line:
        pytest.fail(f"no line within {TIMEOUT} s: {process.communicate()}")
    return line


@pytest.fixture
def served(start):
    """Start ``course serve`` on a free port; return the process and the address."""

    def served(*arguments, **variables):
        process = start("serve", "--port", 0, "--num-blocks", 300, *arguments, **variables)
        found = re.search(r"served at (http://\S+:\d+/v1);", next_line(process))
        return process, found[1]

    return served


class TestGenerate:
    def test_text_goes_to_stdout_and_speed_to_stderr(self, course, llm):
        code, out, err = course("generate", "The scheduler", "--max-tokens", 9, "--temperature", 0)
        [expected] = llm.generate("The scheduler", sampling_params(max_tokens=9, temperature=0))
        assert code == 0
        assert out == expected.outputs[0].text + "\n"
        assert re.fullmatch(
            r"\d tokens in \d+\.\d\d s, \d+ tokens/s; the first after \d+ ms, behind \d+ prompt "
            r"tokens\n",
            err,
        )

    def test_the_prompt_may_come_through_a_pipe(self, course):
        asked = ("--max-tokens", 9, "--seed", 4)
        direct = course("generate", "Blocks\nand more", *asked)
        assert course("generate", "-", *asked, stdin="Blocks\nand more\n")[:2] == direct[:2]

    def test_a_message_is_answered_and_not_continued(self, course, llm):
        code, out, _ = course(
            "generate", "What is a block?", "--chat", "--max-tokens", 9, "--temperature", 0
        )
        messages = [{"role": "user", "content": "What is a block?"}]
        [expected] = llm.chat(messages, sampling_params(max_tokens=9, temperature=0))
        assert (code, out) == (0, expected.outputs[0].text + "\n")

    def test_it_samples_as_the_makers_recommend_unless_told_otherwise(self, course, llm):
        asked = {"max_tokens": 20, "seed": 3}
        options = ("--max-tokens", 20, "--seed", 3)
        for more, temperature in (((), 0.5), (("--temperature", 1), 1.0)):
            _, out, _ = course("generate", "One day", *options, *more)
            [expected] = llm.generate("One day", sampling_params(temperature=temperature, **asked))
            assert out == expected.outputs[0].text + "\n"

    @pytest.mark.parametrize("arguments", [["generate"], ["generate", "--chat"], ["trace"]])
    def test_without_a_tokenizer_there_is_no_text(self, course, tmp_path, arguments):
        for file in checkpoint_folder("course-tiny").iterdir():
            if not file.name.startswith("tokenizer"):
                shutil.copy(file, tmp_path)
        code, _, err = course(*arguments, "hi", "--model", tmp_path)
        assert code == 1
        assert err == (
            f"course: {tmp_path} has no tokenizer.json, and without it there is no text; download "
            "it too\n"
        )

    def test_several_answers_are_numbered(self, course, llm):
        _, out, err = course("generate", "The scheduler", "--n", 3, "--max-tokens", 5, "--seed", 1)
        params = sampling_params(n=3, max_tokens=5, seed=1, **llm.sampling_defaults)
        [expected] = llm.generate("The scheduler", params)
        texts = [answer.text for answer in expected.outputs]
        assert out == "".join(f"[{i + 1}] {text}\n" for i, text in enumerate(texts))
        num_tokens = sum(len(answer.token_ids) for answer in expected.outputs)
        assert err.startswith(f"{num_tokens} tokens in")

    def test_an_answer_ends_in_front_of_any_of_the_stops(self, course):
        asked = ("generate", "The scheduler", "--temperature", 0, "--max-tokens", 30)
        whole = course(*asked)[1]
        early, late = whole[3:6], whole[10:13]
        stopped = course(*asked, "--stop", late, "--stop", early)[1]
        assert stopped == whole[: min(whole.index(early), whole.index(late))] + "\n"

    def test_text_is_shown_as_it_comes(self, llm):
        shown = []

        class Log(io.StringIO):
            def flush(self):
                shown.append(self.getvalue())

        generate(llm, "The scheduler", sampling_params(max_tokens=20, ignore_eos=True), Log())
        assert len(shown) > 10
        assert all(later.startswith(earlier) for earlier, later in pairwise(shown))

    def test_what_steers_a_terminal_is_left_out_on_a_terminal_only(self):
        class Evil:
            def generate_stream(self, prompt, params):
                text = "a\x1b]0;title\x07\tb\x9bc\r\n"
                answer = CompletionOutput(0, text, [1], None, None, "stop")
                yield RequestOutput("0", None, [1], [answer], True, 0)

        screen, file = Screen(), io.StringIO(newline="")
        generate(Evil(), "x", sampling_params(), screen)
        generate(Evil(), "x", sampling_params(), file)
        assert screen.getvalue() == "a]0;title\tbc\n\n"
        assert "\x1b]0;title\x07" in file.getvalue()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["generate", ""], "the prompt is empty"),
            (["generate", "-"], "the prompt is empty"),
            (["generate", "x", "--model", "nowhere"], "there is no model 'nowhere'"),
            (["generate", "x", "--temperature", "-1"], "temperature is -1.0"),
            (["generate", "x", "--max-tokens", "0"], "max_tokens is 0"),
            (["generate", "x", "--n", "0"], "n is 0"),
            (["generate", "word " * 9000], "a sequence has at most"),
            (["serve", "--port", "0", "--model", "nowhere"], "there is no model 'nowhere'"),
            (["serve", "--port", "0", "--policy", "lottery"], "lottery"),
            (["serve", "--port", "0", "--block-size", "0"], "block"),
            (["serve", "--port", "0", "--parts", "mine"], "say own for your parts"),
        ],
    )
    def test_what_the_user_can_put_right_is_one_line(self, course, arguments, message):
        code, out, err = course(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("course: ")
        assert message in err
        assert err.count("\n") == 1

    def test_what_is_piped_in_must_be_text(self):
        with pytest.raises(CourseError, match="pipe UTF-8"):
            read_prompt("-", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))

    def test_ctrl_c_aborts_the_request_and_leaves_the_engine_whole(self, llm, monkeypatch):
        class Impatient(io.StringIO):
            def flush(self):
                if len(self.getvalue()) > 5:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            generate(llm, "The scheduler", sampling_params(max_tokens=50, seed=2), Impatient())
        assert not llm.has_unfinished_requests()
        assert llm.kv_cache_manager.usage == 0

    def test_ctrl_c_ends_the_command_with_one_line(self, start):
        process = start("generate", "The scheduler", "--n", 40, "--max-tokens", 900)
        next_line_or_text = os.read(process.stdout.fileno(), 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT)
        assert next_line_or_text
        assert process.returncode == 130
        assert err.count("\n") == 1
        assert "interrupted" in err

    def test_a_reader_who_has_seen_enough_is_no_error(self, start):
        process = start("generate", "The scheduler", "--n", 40, "--max-tokens", 100)
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        assert process.wait(TIMEOUT) == 0
        assert process.stderr.read() == ""

    def test_speed_is_said_in_one_line(self):
        assert str(Speed(5, 100, 0.0123, 0.5)) == (
            "100 tokens in 0.50 s, 200 tokens/s; the first after 12 ms, behind 5 prompt tokens"
        )


class TestServe:
    def test_openais_client_streams_and_ctrl_c_stops_it(self, served):
        process, url = served()
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=TIMEOUT)
        [model] = client.models.list()
        assert model.id == "course-tiny"
        chunks = list(
            client.chat.completions.create(
                model=model.id,
                messages=[{"role": "user", "content": "What is a block?"}],
                max_completion_tokens=40,
                stream=True,
                extra_body={"ignore_eos": True},
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert len(text) > 20
        assert len(chunks) > 10
        assert chunks[-1].choices[0].finish_reason == "length"

        # It listens on this machine only.
        port = int(url.split(":")[2].split("/")[0])
        connections = psutil.Process(process.pid).net_connections()
        listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
        assert [tuple(address) for address in listening] == [("127.0.0.1", port)]

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, out, err) == (0, "Stopped.\n", "")

    def test_ctrl_c_under_load_tells_the_clients_and_leaves_no_traceback(self, served):
        process, url = served()
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=TIMEOUT)
        stream = client.completions.create(
            model="course-tiny",
            prompt=["The scheduler"] * 8,
            n=8,
            max_tokens=900,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        process.send_signal(signal.SIGINT)
        with pytest.raises(openai.APIError, match="is shutting down"):
            list(stream)
        out, err = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, out, err) == (0, "Stopped.\n", "")

    def test_options_reach_the_engine_and_a_key_may_come_from_the_environment(self, served):
        _, url = served(
            *("--max-model-len", 64, "--max-num-seqs", 3, "--block-size", 8),
            *("--policy", "priority"),
            COURSE_API_KEY="a secret",
        )
        assert httpx.get(f"{url}/models").status_code == 401
        client = openai.OpenAI(base_url=url, api_key="a secret", max_retries=0, timeout=TIMEOUT)
        assert client.models.retrieve("course-tiny").max_model_len == 64
        client.completions.create(
            model="course-tiny", prompt="a", max_tokens=1, extra_body={"priority": -5}
        )

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [([], ["Scheduler"]), (["--parts", "own"], ["Scheduler"]), (["--parts", "reference"], [])],
    )
    def test_parts_are_ones_own_unless_the_reference_is_asked_for(
        self, course, monkeypatch, arguments, named
    ):
        class Mine(Scheduler):
            pass

        given = []

        def load_no_further(model, parts, **options):
            given.extend(parts.own_names)
            raise CourseError("far enough")

        own = EngineParts.of({"Scheduler": Mine})
        monkeypatch.setattr(EngineParts, "load", lambda: own)
        monkeypatch.setattr(serving_module, "load_llm", load_no_further)
        code, _, err = course("serve", "--port", 0, *arguments)
        assert (code, err) == (1, "course: far enough\n")
        assert given == named

    def test_a_port_in_use_is_refused_before_the_model_is_loaded(self, course, monkeypatch):
        monkeypatch.setattr(answers_module, "load_llm", lambda *a, **k: pytest.fail("loaded"))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            code, _, err = course("serve", "--port", port)
        assert code == 1
        assert err == (
            f"course: port {port} is in use; choose another: `course serve --port {port + 1}`, "
            "or --port 0 for any that is free\n"
        )

    @pytest.mark.parametrize("host", ["0.0.0.0", "::"])
    def test_other_machines_are_let_in_only_if_somebody_says_so(self, host):
        with pytest.raises(CourseError, match=r"protect it with --api-key, or say --allow-anyone"):
            Address(host, 0).bind()

    @pytest.mark.parametrize("allowed", [{"api_key": "k"}, {"allow_anyone": True}])
    def test_who_says_so_gets_it(self, allowed):
        with Address("0.0.0.0", 0, **allowed).bind() as listener:
            assert listener.getsockname()[0] == "0.0.0.0"

    def test_whoever_lets_others_in_is_warned(self, start):
        process = start(
            *("serve", "--host", "0.0.0.0", "--port", 0, "--api-key", "k", "--num-blocks", 100)
        )
        assert "served at http://0.0.0.0:" in next_line(process)
        assert next_line(process).startswith("Whoever has the API key on a machine that reaches")

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
    def test_names_of_this_machine_are_loopback(self, host):
        with Address(host, 0).bind() as listener:
            assert listener.getsockname()[0].startswith("127.")

    @pytest.mark.parametrize(
        ("host", "message"),
        [
            ("no.such.host.invalid", "there is no host"),
            ("a" * 100, "there is no host"),
            ("", "there is no host"),
            ("192.0.2.1", "is no address of this machine"),
        ],
    )
    def test_an_address_that_is_not_ours_is_refused(self, host, message):
        with pytest.raises(CourseError, match=message):
            Address(host, 0, api_key="k").bind()

    def test_a_port_whose_connections_are_still_closing_is_free(self):
        with Address(port=0).bind() as server:
            server.listen()
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                connection, _ = server.accept()
                connection.close()
        with Address(port=port).bind():
            pass

    def test_it_is_ready_when_it_says_so(self, served):
        _, url = served()
        began = time.monotonic()
        with contextlib.closing(httpx.Client()) as client:
            assert client.get(url.removesuffix("/v1") + "/health").status_code == 200
        assert time.monotonic() - began < TIMEOUT
