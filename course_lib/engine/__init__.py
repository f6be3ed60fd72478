"""The engine: real tokens, from the same scheduler and cache manager that the simulator drives."""

from course_lib.engine.checkpoint import load_checkpoint, save_checkpoint
from course_lib.engine.config import CheckpointError, LlamaConfig, UnsupportedCheckpointError
from course_lib.engine.core import EngineDeadError, StepRecord
from course_lib.engine.detokenizer import IncrementalDetokenizer
from course_lib.engine.engine import LLM
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.memory_tracker import MemoryReport, MemoryTracker
from course_lib.engine.metrics import EngineMetrics, Histogram
from course_lib.engine.model import LlamaModel
from course_lib.engine.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput
from course_lib.engine.prompts import PromptError
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.tokenizer import ChatTemplateError, Tokenizer, checkpoint_folder
from course_lib.engine.tracing.events import Event
from course_lib.engine.tracing.trace import RequestTrace, Trace
from course_lib.engine.tracing.tracer import Tracer
from course_lib.scheduling.assembly import PartError

__all__ = [
    "LLM",
    "ChatTemplateError",
    "CheckpointError",
    "CompletionOutput",
    "EngineDeadError",
    "EngineMetrics",
    "EngineParts",
    "Event",
    "Histogram",
    "IncrementalDetokenizer",
    "LlamaConfig",
    "LlamaModel",
    "Logprob",
    "MemoryReport",
    "MemoryTracker",
    "PartError",
    "PromptError",
    "RequestMetrics",
    "RequestOutput",
    "RequestTrace",
    "SamplingParams",
    "StepRecord",
    "Tokenizer",
    "Trace",
    "Tracer",
    "UnsupportedCheckpointError",
    "checkpoint_folder",
    "load_checkpoint",
    "save_checkpoint",
]
