"""The command line: ``course``. Each command says what to do and prints; the work is elsewhere.

Imports of the work stand inside the commands, so that ``course --help`` is quick and
``course doctor`` runs where a package is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.progress import track

from autograder.errors import CourseError

app = typer.Typer(
    help="Serving from Scratch: work on the lessons, and check what this machine has.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended: 128 + SIGINT."""


def main() -> None:
    """Run the command line. An error is one line on stderr, without a traceback."""
    try:
        app(prog_name="course")
    except CourseError as error:
        _fail(str(error), code=1)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _fail(f"{name}{error.strerror or error}; put that right and run the command again", code=1)
    except KeyboardInterrupt:
        _fail("interrupted; nothing is half written, run the command again", code=INTERRUPTED)
    except SystemExit as stop:
        # Typer turns Ctrl-C into a silent exit.
        if stop.code == INTERRUPTED:
            _fail("interrupted; nothing is half written, run the command again", code=INTERRUPTED)
        raise


def _fail(message: str, code: int) -> None:
    """Print the message on one line of stderr and exit."""
    line = " ".join(message.split())
    Console(stderr=True).print(f"course: {line}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


@app.callback()
def course() -> None:
    """Serving from Scratch: work on the lessons, and check what this machine has."""


@app.command(epilog="Example: [bold]course lab 1 --port 8899[/bold]")
def lab(
    lesson: Annotated[
        str, typer.Argument(help="Number or name of the lesson; its copy in your workspace opens.")
    ] = "1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port on this machine.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    instructor: Annotated[
        bool, typer.Option("--instructor", help="Open the checkout, with formgrader.")
    ] = False,
) -> None:
    """Open a lesson in JupyterLab. Ctrl-C stops it."""
    from autograder.workspace.lab import instructor_server, learner_server, require_free_port

    server = (
        instructor_server(port, browser) if instructor else learner_server(lesson, port, browser)
    )
    require_free_port(port)
    console.print(f"JupyterLab starts on {server.root_dir}; Ctrl-C stops it.", soft_wrap=True)
    server.run()


@app.command(epilog="Example: [bold]course update 1 --dry-run[/bold]")
def update(
    lesson: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(help="Number or name of the lesson; all lessons in your workspace if none."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change and write nothing.")
    ] = False,
) -> None:
    """Bring newer releases of your lessons in, cell by cell. Your answers stay."""
    from autograder.workspace.copies import Workspace, find_lesson, update_table

    workspace = Workspace.current()
    lessons = [find_lesson(lesson)] if lesson else workspace.opened_lessons()
    if not lessons:
        raise CourseError(
            f"there is no lesson in {workspace.root} yet; open one with `course lab 1`"
        )
    # All plans before the first write: a damaged notebook stops the update as a whole.
    progress = track(lessons, "Comparing releases", console=console, transient=True)
    plans = [workspace.plan_update(each) for each in progress]
    console.print(update_table(plans))
    if dry_run:
        console.print("Nothing was written: this was a dry run.")
        return
    for plan in plans:
        backup = workspace.apply_update(plan)
        if backup is not None:
            console.print(f"{plan.lesson.name}: your old notebook is {backup}", soft_wrap=True)
    if any(plan.changes_notebook for plan in plans):
        console.print("In JupyterLab, use File > Reload Notebook from Disk if a lesson is open.")


@app.command(epilog="Example: [bold]course doctor[/bold]")
def doctor() -> None:
    """Say what this machine has of what the course needs, and what to do about the rest."""
    from autograder.commands.doctor import Status, examine, findings_table

    with console.status("Looking at this machine (importing torch takes a few seconds)"):
        findings = list(examine())
    console.print(findings_table(findings))
    missing = [finding.subject for finding in findings if finding.status is Status.MISSING]
    if missing:
        raise CourseError(f"missing: {', '.join(missing)}; the last column says what to do")
    console.print("Everything that the course needs is here.")


@app.command(epilog="Example: [bold]course build 01_traditional_attention_problems[/bold]")
def build(
    lessons: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(help="Names of lessons; all if none."),
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if lessons/ is out of date.")
    ] = False,
) -> None:
    """Write lessons/ from solutions/, through nbgrader (for maintainers)."""
    from autograder.build import notebooks as building

    if check_only:
        problems = building.stale()
        if problems:
            raise CourseError("; ".join(problems))
        console.print("lessons/ is what solutions/ builds.")
        return
    chosen = building.chosen_sources(lessons)
    for source in track(chosen, description="Building", console=console, transient=True):
        console.print(f"wrote {building.build(source)}", soft_wrap=True, highlight=False)


@app.command(
    epilog="Example: [bold]course check workspace/01_traditional_attention_problems/"
    "01_traditional_attention_problems.ipynb[/bold]"
)
def check(
    notebook: Annotated[Path, typer.Argument(help="A lesson's notebook in your workspace.")],
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that one cell may take.")] = 120,
) -> None:
    """Run all checks of a notebook. It is run in a copy and not changed."""
    from rich.progress import Progress

    from autograder.workspace.notebook_check import check_notebook, results_table

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Running the notebook", total=None)
        results = check_notebook(
            notebook,
            timeout,
            on_cell=lambda index, total: progress.update(task, completed=index, total=total),
        )
    for result in results:
        if not result.passed:
            console.print(result.report, highlight=False, markup=False, soft_wrap=True)
            console.print()
    console.print(results_table(notebook.name, results))
    if not all(result.passed for result in results):
        open_checks = sum(not result.passed for result in results)
        raise CourseError(f"{open_checks} of {len(results)} checks do not pass yet; see above")


@app.command(epilog="Example: [bold]course samples && make grade[/bold]")
def samples() -> None:
    """Write sample submissions to grading/submitted/, to try grading on (for instructors)."""
    from autograder.build.samples import samples_table, write_samples

    with console.status("Making the samples from the lessons as they are released"):
        written = write_samples()
    console.print(samples_table(written))
    console.print("They are in grading/submitted/; grade them with `make grade`.")


@app.command(epilog="Example: [bold]course bench core --json core.json[/bold]")
def bench(
    suite: Annotated[
        str, typer.Argument(help="What to measure: core, kernels, simulator or engine.")
    ] = "core",
    json_file: Annotated[
        Optional[Path],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--json", metavar="FILE", help="Write the figures to this file too."),
    ] = None,
) -> None:
    """Measure how fast the library is on this machine, beside a baseline, and beside vLLM."""
    from rich.progress import Progress

    from autograder.bench.core import measure

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Measuring", total=None)
        report = measure(
            suite, on_step=lambda done, total: progress.update(task, completed=done, total=total)
        )
    console.print(report.table())
    if json_file is not None:
        report.write_json(json_file)
        console.print(f"wrote {json_file}", soft_wrap=True, highlight=False)


@app.command(
    epilog="Example: [bold]course simulate poisson --sweep rate=2,4,6 --report sweep_of_rate[/bold]"
)
def simulate(
    workload: Annotated[
        str,
        typer.Argument(
            help="poisson, gamma, on-off, closed, azure-conversation, azure-code, mooncake or "
            "vllm-run."
        ),
    ] = "poisson",
    requests: Annotated[
        Optional[int],  # noqa: UP045 - Typer reads this at run time
        typer.Option(help="Number of requests; 1000, or the whole trace."),
    ] = None,
    rate: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Requests per second; 4, or as in the trace."),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Model; llama-3.1-8b."),
    ] = None,
    gpu: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="GPU; a100-80gb."),
    ] = None,
    blocks: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Blocks of the KV cache; as many as the GPU can hold."),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="Order of service: fcfs, sjf or srpt; vtc or wfq for the clients of closed."
        ),
    ] = "fcfs",
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other parameter, such as max-num-seqs=64; a wrong name lists all.",
        ),
    ] = None,
    sweep: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME=V1,V2,...", help="Run once for each value of a parameter."),
    ] = None,
    scheduler: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="tcp://...", help="Dask cluster for the sweep; one is started here."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Processes to start for the sweep; one per core."),
    ] = None,
    experiment: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Instead: static, stall, thrash, watermark, sjf, head-of-line or capacity."
        ),
    ] = None,
    report: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FOLDER", help="Write tables, figures and a trace to a new folder."),
    ] = None,
) -> None:
    """Serve a workload on a virtual clock, and measure what its users would notice."""
    from autograder.commands import simulate as simulate_command

    if sweep is None and (scheduler is not None or workers is not None):
        raise CourseError("--scheduler and --workers are for a --sweep; add one, or leave them out")
    if experiment is not None and (sweep is not None or settings):
        raise CourseError("an --experiment is fixed; leave --sweep and --set out")
    if experiment is not None:
        simulate_command.show_experiment(experiment, console, report)
        return
    setup = simulate_command.make_setup(
        settings or [],
        workload=workload,
        requests=requests,
        rate=rate,
        model=model,
        gpu=gpu,
        blocks=blocks,
        policy=policy,
    )
    if sweep is not None:
        simulate_command.show_sweep(setup, sweep, console, report, scheduler, workers)
    else:
        simulate_command.show_one(setup, console, report)


@app.command(epilog="Example: [bold]course generate 'Once upon a time' --max-tokens 40[/bold]")
def generate(
    prompt: Annotated[str, typer.Argument(help="Text to continue; - reads it from stdin.")],
    model: Annotated[
        str, typer.Option(help="course-tiny, or a folder with a Hugging Face checkpoint.")
    ] = "course-tiny",
    chat: Annotated[
        bool, typer.Option("--chat", help="Answer the prompt as a message; do not continue it.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 128,
    temperature: Annotated[
        Optional[float],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            help="0 for the most probable text, 1 for the model's own chances. Default: what its "
            "makers recommend."
        ),
    ] = None,
    top_p: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Only the most probable tokens that have this probability together."),
    ] = None,
    top_k: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Only this many of the most probable tokens."),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="The same seed gives the same text again."),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Number of answers.")] = 1,
    stop: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Text before which an answer ends; may be given several times."),
    ] = None,
) -> None:
    """Have a model continue a text, or answer it, on the course's own engine."""
    from autograder.commands import generate as generate_command

    generate_command.run(
        prompt,
        model,
        chat,
        {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "seed": seed,
            "n": n,
            "stop": stop,
        },
    )


@app.command(epilog="Example: [bold]course trace 'A block' --num-blocks 12 --json run.json[/bold]")
def trace(
    prompt: Annotated[str, typer.Argument(help="Text to continue.")] = "The scheduler",
    model: Annotated[
        str, typer.Option(help="course-tiny, or a folder with a Hugging Face checkpoint.")
    ] = "course-tiny",
    others: Annotated[int, typer.Option(min=0, help="Requests beside it.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens that each generates.")] = 16,
    num_blocks: Annotated[
        Optional[int],  # noqa: UP045 - Typer reads this at run time
        typer.Option(help="Blocks of the KV cache; few of them force preemptions."),
    ] = None,
    max_num_seqs: Annotated[int, typer.Option(help="Most requests in a batch.")] = 4,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", metavar="FILE", help="Write a time line for ui.perfetto.dev."),
    ] = None,
    csv_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--csv", metavar="FILE", help="Write all events as a table."),
    ] = None,
) -> None:
    """Follow one request through the engine, step by step, with others running."""
    from autograder.commands import trace as trace_command

    options = {"num_blocks": num_blocks, "max_num_seqs": max_num_seqs}
    trace_command.run(prompt, model, others, max_tokens, json_file, csv_file, options, console)


@app.command(epilog="Example: [bold]course serve --port 8001 --max-num-seqs 16[/bold]")
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
    debug: Annotated[
        bool, typer.Option("--debug", help="Check every invariant in every step; slow.")
    ] = False,
) -> None:
    """Serve a model to OpenAI clients on this machine. Ctrl-C stops it."""
    from autograder.commands import serve as serve_command

    serve_command.serve(
        model,
        serve_command.Address(host, port, api_key, allow_anyone),
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
    )
