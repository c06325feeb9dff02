"""Pickles in checkpoints, read by a reader that knows a few names, calls nothing else, and makes no tensor."""

import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np
import torch

LARGEST_PICKLE = 16 << 20  # bytes: a name and a few numbers a tensor
_LARGEST_TERM = 10**12  # of a fraction: those of a longer text take long to make
_SCALARS = re.compile(r"[fiub][1248]")
_KEYS = str | int | float | None
_INSTRUCTIONS = (  # all that torch.save and its predecessors write
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING SHORT_BINSTRING "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES EMPTY_LIST EMPTY_DICT EMPTY_TUPLE TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL "
    "REDUCE NEWOBJ BUILD BINPERSID"
)


_LONGEST = 1500  # characters of a message


def printable(text: str) -> str:
    """Replace what would steer a terminal in text that comes from a file, and cut what is too long."""
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} .."
    return "".join(character if character.isprintable() else "?" for character in cut)


class CheckpointError(ValueError):
    """A file holds no weights that can be read safely."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class Storage(NamedTuple):
    """Values in a file that tensors are views of."""

    key: str
    dtype: torch.dtype
    n_values: int


class StoredTensor(NamedTuple):
    """A tensor in a file, not read yet: places in a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def check(self) -> None:
        """Refuse places that there are not, and more places than values.

        Raises:
            CheckpointError: they are outside of the storage.
        """
        numbers = (self.offset, *self.shape, *self.stride)
        if len(self.shape) != len(self.stride) or not all(type(number) is int and number >= 0 for number in numbers):
            raise CheckpointError(f"a tensor has the shape {self.shape} with strides {self.stride}")
        n_values = 1
        for length in self.shape:
            n_values *= length
        last = self.offset + sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict=True))
        if n_values and (last >= self.storage.n_values or n_values > self.storage.n_values):
            raise CheckpointError(f"a tensor of the shape {self.shape} has {self.storage.n_values} values in the file")


class ClassName(str):
    """A class that a file names; it is never made an object of."""


class _Maker(NamedTuple):
    """What may be called by a file."""

    make: Callable[..., Any]


class _Unread:
    """What a file says about training, and which no weights need: it is left where it is."""

    def __init__(self, *_: object) -> None: ...


class _ScalarType:
    """The type of a numpy scalar."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _SCALARS.fullmatch(code):
            raise CheckpointError(f"numpy scalars must be numbers of at most 8 bytes, got {code!r}")
        self.code, self.order = code, "<"


def _make_scalar(kind: object, raw: object = b"") -> float | int | bool:
    size = int(kind.code[1:]) if isinstance(kind, _ScalarType) else 0
    if not isinstance(raw, bytes) or not 0 < len(raw) == size:
        raise CheckpointError("a numpy scalar has not the bytes of its type")
    return np.frombuffer(raw, np.dtype(kind.order + kind.code)).item()


def _make_fraction(*terms: object) -> Fraction:
    """Make an exact number of two whole ones, or of text like 39/5."""
    if len(terms) == 1 and isinstance(terms[0], str) and re.fullmatch(r"-?\d{1,12}(/\d{1,12})?", terms[0]):
        terms = tuple(map(int, terms[0].split("/")))
    if not 1 <= len(terms) <= 2 or not all(type(term) is int and abs(term) < _LARGEST_TERM for term in terms):
        raise CheckpointError(f"a fraction must be of two numbers below 1e12, got {str(terms)[:60]}")
    if terms[-1] == 0 and len(terms) == 2:
        raise CheckpointError("a fraction divides by 0")
    return Fraction(*terms)


def _make_tensor(storage: object, offset: object, shape: object, stride: object, *others: object) -> StoredTensor:
    if any(isinstance(marks, dict) and any(marks.values()) for marks in others[2:3]):
        raise CheckpointError("a tensor is stored negated or conjugated, which is not supported: save a clone of it")
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise CheckpointError("a tensor is described in a way that is not known")
    tensor = StoredTensor(storage, offset, shape, stride)
    tensor.check()
    return tensor


def _make_ordered(pairs: object = ()) -> dict:
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], _KEYS) for pair in pairs
    ):
        raise CheckpointError("a mapping has keys that are no names")
    return {key: value for key, value in pairs}  # noqa: C416 - pairs may be lists


def _encode(text: object, codec: object) -> bytes:
    if not isinstance(text, str) or codec != "latin1":
        raise CheckpointError(f"bytes must be written as latin1, got {str(codec)[:40]}")
    return text.encode("latin1")


_STORED = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
}  # fmt: skip
_CLASSES = (
    "demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs", "demucs.wdemucs.WDemucs",
    "demucs.wdemucs.HDemucs",
)  # fmt: skip
_UNREAD = (  # that hold words about the training, and call nothing here
    "argparse.Namespace", "pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath", "pathlib._local.PosixPath", "datetime.datetime", "datetime.timedelta", "torch.device",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "numpy.ndarray",
    "lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in (
        "set", "frozenset", "complex", "list", "dict", "int", "float",
    )),
    *(f"torch.{name}" for name in (
        "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool",
    )),
)  # fmt: skip
_PACKED = {
    "_rebuild_sparse_tensor": "sparse", "_rebuild_qtensor": "quantised", "_rebuild_meta_tensor_no_storage": "empty",
    "_rebuild_tensor_v3": "8-bit", "_rebuild_wrapper_subclass": "wrapped",
}  # fmt: skip
_KNOWN: dict[str, Any] = {
    **{name: _Maker(_Unread) for name in _UNREAD},
    **{f"torch.{name}Storage": dtype for name, dtype in _STORED.items()},
    **{name: ClassName(name) for name in _CLASSES},
    "collections.OrderedDict": _Maker(_make_ordered),
    "collections.defaultdict": _Maker(lambda *_: {}),
    "fractions.Fraction": _Maker(_make_fraction),
    "numpy.dtype": _Maker(_ScalarType),
    "numpy.core.multiarray.scalar": _Maker(_make_scalar),
    "numpy._core.multiarray.scalar": _Maker(_make_scalar),
    "_codecs.encode": _Maker(_encode),
    "torch.Size": _Maker(tuple),
    "torch._utils._rebuild_tensor": _Maker(_make_tensor),
    "torch._utils._rebuild_tensor_v2": _Maker(_make_tensor),
    "torch._utils._rebuild_parameter": _Maker(lambda tensor, *_: tensor),
}


class _Reader(pickle._Unpickler):
    """Read a pickle by the names above; the one of C would allocate what a file asks for."""

    dispatch: ClassVar = {
        code: pickle._Unpickler.dispatch[code]
        for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS.split())
        if code in pickle._Unpickler.dispatch
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for.

        Raises:
            CheckpointError: it is none of those that weights need.
        """
        found = _KNOWN.get(f"{module}.{name}")
        if module == "torch._utils" and name in _PACKED:
            raise CheckpointError(
                f"it holds {_PACKED[name]} tensors ({name}), which are not supported: save the weights as plain float32"
            )
        if found is None:
            raise CheckpointError(
                f"it names {module}.{name}"[:200] + ", which no weights need and which could run anything, so nothing "
                "of it is read: look for the weights as .safetensors"
            )
        return found

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that is asked for.

        Raises:
            CheckpointError: it is none.
        """
        is_known = isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage" and pid[5:] in ((), (None,))
        if not is_known or not isinstance(pid[1], torch.dtype) or not isinstance(pid[2], str | int):
            raise CheckpointError("values are stored in a way that is not known")
        if type(pid[4]) is not int or pid[4] < 0:
            raise CheckpointError(f"a storage has {pid[4]} values")
        return Storage(str(pid[2]), pid[1], pid[4])

    def _call(self) -> None:
        arguments = self.stack.pop()
        maker = self.stack[-1]
        if not isinstance(maker, _Maker) or not isinstance(arguments, tuple):
            raise CheckpointError("it calls what cannot be called")
        self.stack[-1] = maker.make(*arguments)

    def _complete(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if (
            isinstance(made, _ScalarType)
            and isinstance(state, tuple)
            and len(state) > 1
            and state[1] in ("<", ">", "|")
        ):
            made.order = state[1]
        elif not isinstance(made, dict | _Unread):  # of which some have attributes, as the versions of modules
            raise CheckpointError("it sets attributes of what has none")

    def _put(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put_all([key, value])

    def _put_many(self) -> None:
        self._put_all(self.pop_mark())

    def _put_all(self, items: list) -> None:
        mapping = self.stack[-1]
        # A key of nested tuples would take for ever to hash.
        if isinstance(mapping, _Unread):
            return
        if not isinstance(mapping, dict) or not all(isinstance(key, _KEYS) for key in items[::2]):
            raise CheckpointError("a mapping has keys that are no names")
        mapping.update(zip(items[::2], items[1::2], strict=True))

    dispatch |= {
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.BUILD[0]: _complete,
        pickle.SETITEM[0]: _put,
        pickle.SETITEMS[0]: _put_many,
    }


class _Limited:
    """A file of which a pickle may read so many bytes."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._left = file, most

    def read(self, size: int) -> bytes:
        self._take(size)
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(1000)
        self._take(len(line))
        return line

    def _take(self, size: int) -> None:
        self._left -= size
        if size < 0 or self._left < 0:
            raise CheckpointError(f"what describes its tensors is larger than {LARGEST_PICKLE >> 20} MB")


def read_pickle(file: BinaryIO) -> Any:
    """Read a pickle from where a file is; the file is behind it then.

    Returns:
        Plain data; tensors are `StoredTensor`, classes `ClassName`.

    Raises:
        CheckpointError: it names, calls or holds what no weights need, or is damaged.
    """
    try:
        return _Reader(_Limited(file, LARGEST_PICKLE), encoding="latin1").load()
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"it is damaged, or not of torch: instruction {error} is not known") from error
    except Exception as error:  # what the reader stumbles over
        raise CheckpointError(f"it is damaged ({type(error).__name__}): download it again") from error
