"""What an operator may choose about how a network is served, from flags or from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from sapiens_core.contract.settings import Finish
from sapiens_core.processors import num_processors
from sapiens_export.documents import NO_OTHER_KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from sapiens_core.contract.engines import Runtime

ALL_GPUS, NO_WARMUP, AT_HAND = "all", "none", "auto"
_EMPTY = {"gpus": ALL_GPUS, "warmup": NO_WARMUP}  # words for empty lists
_MOST = 2**31 - 1  # that a model config can hold
_POSITIVE = ("max_batch_size", "max_queue_size", "instances", "cpu_instances", "people_instances")


@dataclass(frozen=True)
class StepChoices:
    """What an operator may choose about a step that runs on the CPU.

    Attributes:
        cpu_instances: Its processes.
        max_queue_size: Requests that may wait at it.
    """

    cpu_instances: int = 2
    max_queue_size: int = 64


_STEP_DEFAULTS = StepChoices()


@dataclass(frozen=True)
class Serving:
    """What an operator may choose about a network and the steps around it.

    Attributes:
        max_batch_size: Largest batch of the engine.
        queue_delay_us: How long the engine waits for a fuller batch, microseconds.
        max_queue_size: Requests that may wait at each step before further ones are turned away. None: not
            said, see `at_step`.
        instances: Copies of the engine on each of its devices.
        gpus: Ids of the GPUs that get the engine. Empty: every GPU of the server, its CPU where it has none.
        cpu_instances: Processes of each preprocessor, each postprocessor, and of the built-in detector, which
            never runs on a GPU. None: not said.
        people_instances: Processes of `people_pose`, each of which is taken up by one call until that is
            answered, for the most part waiting for engines: as many as calls are expected at the same time.
            With fewer than `max_batch_size`, single persons never fill a batch.
        warmup: Batch sizes that the engine computes once before the server is ready: the first computation
            takes longer, and an engine that cannot compute fails to load. Empty: none.
        tensorrt_accelerator: ONNX Runtime compiles an ONNX engine with TensorRT when it is loaded; means
            nothing to other engines.
        finish: Where results become as large as the image: "cpu", by numpy; "gpu", by torch on the engine's
            device, so that only the result leaves it; "auto", on the GPU where the export sees one and the
            task has a function for it, which the manifest then tells.
        portable: An aoti engine is run by torch in Triton's Python backend, which every server has; means
            nothing to other engines.

    Raises:
        ValueError: A number is out of range, or stands twice in a list.
    """

    __pydantic_config__: ClassVar = NO_OTHER_KEYS

    max_batch_size: int = 4
    queue_delay_us: int = 0
    max_queue_size: int | None = None
    instances: int = 1
    gpus: tuple[int, ...] = ()
    cpu_instances: int | None = None
    people_instances: int = 4
    warmup: tuple[int, ...] = (1,)
    tensorrt_accelerator: bool = False
    finish: Finish = "cpu"
    portable: bool = False

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) is not None:
                _check_range(name, getattr(self, name), 1)
        _check_range("queue_delay_us", self.queue_delay_us, 0)
        for gpu in self.gpus:
            _check_range("an id of gpus", gpu, 0)
        if _has_twins(self.gpus):
            raise ValueError(f"gpus must be different ids, got {list(self.gpus)}; name each GPU once")
        if _has_twins(self.warmup) or not all(1 <= size <= self.max_batch_size for size in self.warmup):
            raise ValueError(
                f"warmup must be different batch sizes from 1 to max_batch_size, {self.max_batch_size}, "
                f"got {list(self.warmup)}; leave out those the engine does not take"
            )
        if self.finish not in get_args(Finish):
            raise ValueError(f"finish must be one of {get_args(Finish)}, got {self.finish!r}")

    def has_own_adapter(self, runtime: Runtime) -> bool:
        """Return whether an engine is run by torch in Triton's Python backend, not by a backend of Triton's.

        Args:
            runtime: Of the engine.
        """
        return runtime == "python" or (runtime == "aoti" and self.portable)

    def is_positional(self, runtime: Runtime) -> bool:
        """Return whether an engine's tensors are called as by `by_position`, see there.

        Args:
            runtime: Of the engine.
        """
        return runtime == "aoti" and not self.portable

    def at_step(self, present: StepChoices = _STEP_DEFAULTS) -> StepChoices:
        """Return what is chosen about a step.

        Args:
            present: What holds where nothing is said: for a step that other engines share, what it has.
        """
        return StepChoices(
            self.cpu_instances or present.cpu_instances, self.max_queue_size or present.max_queue_size
        )


def _check_range(name: str, value: int, least: int) -> None:
    if not least <= value <= _MOST:
        raise ValueError(f"{name} must be from {least} to {_MOST}, got {value}; give a number between")


def _has_twins(values: Sequence[int | str]) -> bool:
    return len(set(values)) < len(values)


def processes_at_hand() -> int:
    """Return how many processes of a step suit this machine: one for two processors, and no less than two."""
    return max(StepChoices.cpu_instances, int(num_processors() / 2))


def chosen_serving(given: Mapping[str, Any], file: Path | None) -> Serving:
    """Put together what the operator chose on the command line, else in a file.

    Args:
        given: Attributes of `Serving` as options give them, lists as text such as "0,1"; other names are left
            out.
        file: YAML file, see `read_serving`.

    Raises:
        ValueError: A choice cannot be made, here or in the file.
        OSError: The file cannot be read.
    """
    values = {field.name: given[field.name] for field in fields(Serving) if field.name in given}
    for name, empty in _EMPTY.items():
        if name in values:
            values[name] = _numbers(name, values[name], empty)
    return Serving(**((read_serving(file) if file else {}) | values))


def _numbers(name: str, text: str, empty: str) -> tuple[int, ...]:
    if text == empty:
        return ()
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"--{name} must be numbers such as 1,4, or {empty}, got {text!r}; correct it")
    return tuple(map(int, parts))


def read_serving(path: Path) -> dict[str, Any]:
    """Read choices from a YAML file.

    Args:
        path: File with attributes of `Serving` as keys.

    Returns:
        Those that are in the file, as keyword arguments for `Serving`.

    Raises:
        ValueError: The file is no YAML mapping, or has a key or a value that `Serving` does not take.
        OSError: The file cannot be read.
    """
    import yaml  # here, because only those who have such a file need it

    try:
        text = path.read_text(encoding="utf-8")
        content, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ValueError(f"{path} must be a YAML file that can be read, got: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} must be a YAML file, got: {reason}; correct it") from error
    keys = [str(key.value) for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    if _has_twins(keys):
        twins = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"keys in {path} must be different, got {twins} more than once; keep one of each")
    return _values({} if content is None else content, str(path))


def _values(content: object, origin: str) -> dict[str, Any]:
    """Return keyword arguments for `Serving` from data that was read.

    Args:
        content: What was read: a mapping, in which a list, or the word for an empty one, stands for a tuple.
        origin: Where it was read from, for the message.

    Raises:
        ValueError: It is no mapping, or has a key or a value that `Serving` does not take.
    """
    kinds = {field.name: str(field.type) for field in fields(Serving)}
    if not isinstance(content, Mapping):
        raise ValueError(f"{origin} must hold lines `key: value`, got {content!r:.80}; correct it")
    if unknown := [key for key in content if key not in kinds]:
        raise ValueError(
            f"keys in {origin} must be of {', '.join(kinds)}, got {unknown}; correct or remove them"
        )
    return {key: _checked(key, value, kinds[key], origin) for key, value in content.items()}


def _checked(key: str, value: object, kind: str, origin: str) -> object:
    match kind:
        case "bool" if isinstance(value, bool):
            return value
        case "Finish":
            return value
        case "int" | "int | None" if _is_whole(value):
            return value
        case "int | None" if value is None:
            return None
        case "int | None" if key == "cpu_instances" and value == AT_HAND:
            return processes_at_hand()
        case "tuple[int, ...]" if isinstance(value, list) and all(map(_is_whole, value)):
            return tuple(value)
        case "tuple[int, ...]" if value == _EMPTY[key]:
            return ()
    wanted = {"bool": "true or false", "int": "a whole number", "int | None": "a whole number"}.get(kind)
    wanted = wanted or f"a list of whole numbers such as [0, 1], or {_EMPTY[key]}"
    raise ValueError(f"{key} in {origin} must be {wanted}, got {value!r:.80}; correct it")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
