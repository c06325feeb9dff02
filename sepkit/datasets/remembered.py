"""What was found in files, remembered by their path, size and time of change."""

import hashlib
import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sepkit.audio import AudioInfo
from sepkit.cache import cache_directory, writing_to_cache
from sepkit.disk import OutputError

_AT_ONCE = 500  # keys of one question to the database
_PATIENCE = 60.0  # s for which another process may write


class Remembered:
    """Values in bytes, by key, in a file of the cache that several processes may use at once.

    What cannot be read is forgotten with a warning: it can be found again. Where there is no place for a cache, nothing
    is remembered.

    Args:
        kind: of what is remembered; names the file.
        columns: names of the values of each key, which are read together or alone.
    """

    def __init__(self, kind: str, columns: Sequence[str] = ("value",)):
        self.path: Path | None = None
        with suppress(OutputError):  # a user without a home folder
            self.path = cache_directory() / "measured" / f"{kind}.sqlite"
        self.columns = tuple(columns)

    def read(self, keys: Iterable[bytes], column: str | None = None) -> dict[bytes, tuple[bytes, ...]]:
        """Read what is remembered of keys: all values of each, or one column alone."""
        wanted, found = list(keys), {}
        chosen = self.columns if column is None else (column,)
        if self.path is None or not self.path.is_file():
            return {}
        try:
            with self._connection() as connection:
                for start in range(0, len(wanted), _AT_ONCE):
                    some = wanted[start : start + _AT_ONCE]
                    question = f"SELECT key, {', '.join(chosen)} FROM found WHERE key IN ({','.join('?' * len(some))})"
                    found.update((key, tuple(values)) for key, *values in connection.execute(question, some))
        except sqlite3.DatabaseError as error:
            self._forget(error)
        return found

    def write(self, values: Mapping[bytes, Sequence[bytes]]) -> None:
        """Write the values of keys, at once; former ones of the same keys are replaced.

        Raises:
            sepkit.disk.OutputError: the cache cannot be written to.
        """
        if self.path is None:
            return
        places = ", ".join("?" * (len(self.columns) + 1))
        with writing_to_cache():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._connection() as connection, connection:
                    rows = [(key, *columns) for key, columns in values.items()]
                    connection.executemany(f"INSERT OR REPLACE INTO found VALUES ({places})", rows)
            except sqlite3.OperationalError as error:
                raise OSError(None, str(error)) from error
            except sqlite3.DatabaseError as error:
                self._forget(error)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            columns = ", ".join(f"{name} BLOB" for name in self.columns)
            connection.execute(f"CREATE TABLE IF NOT EXISTS found (key BLOB PRIMARY KEY, {columns})")
            yield connection

    def _forget(self, error: sqlite3.DatabaseError) -> None:
        """Remove a damaged file; one that is only in use stays."""
        if not isinstance(error, sqlite3.OperationalError):
            self.path.unlink(missing_ok=True)
        warnings.warn(f"{self.path} cannot be read ({error}): what it holds is found again", stacklevel=3)


def file_key(info: AudioInfo, version: int) -> bytes:
    """Return the key of what was found in one version of a file, by one version of what looks for it."""
    name = os.fsencode(Path(info.path).absolute())
    return hashlib.sha256(b"\0".join([name, repr((info.version, version)).encode()])).digest()
