"""One SQLite file that several processes, each with several threads, use at once.

**Transactions.** :meth:`Database.write` is BEGIN IMMEDIATE, so that nothing is ever upgraded from
reading to writing; :meth:`Database.read` is one snapshot. Both are short; the only other work
done inside one is to write a record or to rename a thing away. A transaction that is opened
inside another one of the same thread joins it. The journal is a WAL, with ``synchronous=NORMAL``:
a commit survives the death of any process, and ``durable=True`` makes it survive a power cut too.

**Connections** are pooled, each used by one thread at a time. SQLite's locks are POSIX locks,
which a process loses when it closes *any* descriptor of the file: so nothing else here ever opens
it. A connection must not cross a fork: idle ones are closed before, busy ones are forgotten in
the child.

**Opening.** Everyone who uses the database holds a shared flock on ``state.lock``; whoever can
get an exclusive one is alone. Alone, and only then, an engine creates the tables, applies schema
steps, and looks whether the last use ended badly: a WAL that is still there was left by a process
that was killed, or the machine went down. Then ``integrity_check`` runs. A damaged file is set
aside with the date in its name, a new one is made, and ``salvage`` fills it from the records on
disk, in the same transaction that makes the tables: a crash on the way leaves an empty file, and
it all happens again.

**A full disk.** A ballast file of 1 MiB lies beside the database. A transaction that shrinks the
store (``shrinking=True``) gives it up when the disk is full, so that removing always works; the
next engine that starts with room lays it down again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_from_bytes

from cellbox import faults
from cellbox.errors import CellboxError, EngineError, Unavailable
from cellbox.local import schema

T = TypeVar("T")

BUSY_SECONDS = 30.0
BALLAST = 1 << 20
ROOM = 64 << 20
"""Free bytes that a disk must have before ballast is laid down."""

Salvage = Callable[[sqlite3.Connection], None]
"""Fills a new database from what else is known."""

faults.declare(
    state__commit__before="a transaction is complete but not committed",
    state__damaged__renamed="a damaged database was set aside, no new one is there",
)

_READ = "BEGIN"
_WRITE = "BEGIN IMMEDIATE"
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NONSENSE = (sqlite3.Error, CellboxError, AttributeError, OverflowError, TypeError, ValueError)
_SUFFIXES = ("", "-wal", "-shm")
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_every: weakref.WeakSet[Database] = weakref.WeakSet()
_forking: list[Database] = []
_abandoned: list[sqlite3.Connection] = []  # never closed: closing would act on the parent's file


def lock(fd: int, *, seconds: float, shared: bool = False) -> bool:
    """Take a flock(2) on ``fd``, waiting at most ``seconds``; whether it was got.

    One that was held before is given up while waiting.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)


def insert_each(
    connection: sqlite3.Connection, facts: Iterable[T], insert: Callable[[T], None]
) -> None:
    """Insert facts of doubtful origin, each wholly or, where it makes no sense, not at all."""
    for fact in facts:
        connection.execute("SAVEPOINT one")
        try:
            insert(fact)
        except _NONSENSE:
            connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")


class Database:
    """The database at ``path``; opened when first used, safe for any thread.

    ``salvage`` fills a database that was made anew. Every method raises
    :class:`~cellbox.errors.Unavailable` when others kept it busy for 30 s or when it was found
    damaged, and :class:`~cellbox.errors.EngineError` when the disk is full or read-only.
    """

    def __init__(
        self,
        path: Path,
        *,
        salvage: Salvage = lambda connection: None,
        steps: Sequence[schema.Step] = schema.STEPS,
    ) -> None:
        self.path = path
        self.ballast = path.with_name(path.name + ".ballast")
        self._suspect = path.with_name(path.name + ".suspect")
        self._salvage = salvage
        self._steps = steps
        self._reset()
        _every.add(self)

    def _reset(self) -> None:
        self._mutex = threading.RLock()
        self._idle: list[sqlite3.Connection] = []
        self._busy: set[sqlite3.Connection] = set()
        self._mine = threading.local()
        self._lock_fd = -1
        self._damaged = False
        self._read_only = False

    @contextlib.contextmanager
    def write(
        self, *, durable: bool = False, shrinking: bool = False
    ) -> Iterator[sqlite3.Connection]:
        """A transaction that may write; committed at the end, rolled back by any exception.

        Inside another one it becomes a part of that, which alone decides whether it is durable.
        """
        if shrinking:
            self._make_room()
        with self._transaction(_WRITE, durable) as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One snapshot of the database."""
        with self._transaction(_READ, False) as connection:
            yield connection

    def query(self, statement: str, arguments: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """The rows of one SELECT, which needs no transaction to be one snapshot."""
        if getattr(self._mine, "connection", None) is not None:
            with self.read() as connection:
                return connection.execute(statement, arguments).fetchall()
        connection = self._opened()
        try:
            with self._translated():
                return connection.execute(statement, arguments).fetchall()
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Let go of all connections that are not in use; the next use opens it again."""
        with self._mutex:
            self._close_idle()
            if not self._busy:
                self._unlock()

    @contextlib.contextmanager
    def _transaction(self, begin: str, durable: bool) -> Iterator[sqlite3.Connection]:
        outer: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if outer is not None:
            if begin == _WRITE and not self._mine.writing:
                raise RuntimeError("a transaction that reads cannot become one that writes")
            yield outer
            return
        connection = self._opened()
        self._mine.connection, self._mine.writing = connection, begin == _WRITE
        try:
            with self._translated(), _transacting(connection, begin, durable):
                yield connection
        finally:
            self._mine.connection = None
            self._give_back(connection)

    def _opened(self) -> sqlite3.Connection:
        try:
            with self._translated():
                return self._take()
        except OSError as error:
            raise EngineError(
                f"the state database {self.path} cannot be opened: {error}"
            ) from error

    def _take(self) -> sqlite3.Connection:
        with self._mutex:
            if self._lock_fd < 0:
                self._prepare()
            connection = self._idle.pop() if self._idle else self._connect()
            self._busy.add(connection)
            return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._mutex:
            self._busy.discard(connection)
            self._idle.append(connection)
            if self._damaged and not self._busy:
                # only now: closing a connection deletes a WAL by its name, be it a new one's
                self._damaged = False
                self._close_idle()
                self._unlock()

    def _connect(self) -> sqlite3.Connection:
        uri = f"file:{quote_from_bytes(bytes(self.path))}"
        if self._read_only:
            # without a WAL, SQLite would have to write an index for one; nobody else can write
            wal = self.path.with_name(self.path.name + "-wal").exists()
            uri += "?mode=ro" + ("" if wal else "&immutable=1")
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.executescript("PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL")
        return connection

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # --- opening -------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Take the lock, and alone bring the file into order. The mutex is held."""
        self._open_lock()
        try:
            if self._read_only:
                self._is_current()  # or newer: raises
                return
            if lock(self._lock_fd, seconds=0) or not self._is_current():
                self._prepare_alone()
            self._share()
        except BaseException:
            self._unlock()
            raise

    def _open_lock(self) -> None:
        path, flags = self.path.with_name(self.path.stem + ".lock"), os.O_CREAT | os.O_CLOEXEC
        try:
            self._lock_fd = os.open(path, flags | os.O_RDWR, 0o600)
            self._read_only = False
        except OSError as error:
            if error.errno not in _READ_ONLY or not self.path.exists():
                raise EngineError(
                    f"the store {self.path.parent} cannot be used: {error}"
                ) from error
            self._lock_fd = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            self._read_only = True

    def _share(self) -> None:
        if not lock(self._lock_fd, seconds=BUSY_SECONDS, shared=True):
            raise Unavailable(f"another cellbox is setting up the store {self.path.parent}")

    def _is_current(self) -> bool:
        self._share()
        with contextlib.closing(self._connect()) as connection:
            found = schema.version(connection)
        schema.check_version(found, self.path.parent, self._steps)
        return found == len(self._steps)

    def _prepare_alone(self) -> None:
        if not lock(self._lock_fd, seconds=BUSY_SECONDS):
            raise Unavailable(
                f"the store {self.path.parent} is in use by an older cellbox; close that one first"
            )
        if self._is_damaged():
            self._set_aside()
        with contextlib.closing(self._connect()) as connection:
            found = schema.version(connection)
            schema.check_version(found, self.path.parent, self._steps)
            if found < len(self._steps):
                self._upgrade(connection, found)
        self._lay_ballast()

    def _is_damaged(self) -> bool:
        wal = self.path.with_name(self.path.name + "-wal")
        unclean = self._suspect.exists() or (wal.exists() and wal.stat().st_size > 0)
        if unclean:
            self._leave_word()  # closing the connection removes the WAL, even after a bad answer
        try:
            with contextlib.closing(self._connect()) as connection:
                schema.version(connection)
                if not unclean:
                    return False
                answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            if _code(error) in _DAMAGE:
                return True
            raise
        if answer == "ok":
            self._suspect.unlink(missing_ok=True)
        return bool(answer != "ok")

    def _set_aside(self) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        aside = f"{self.path.name}.damaged-{stamp}-{os.getpid()}"
        for suffix in _SUFFIXES:  # a WAL that is left alone is dropped by SQLite
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(
                    self.path.with_name(aside + suffix)
                )
        faults.point("state.damaged.renamed")
        self._suspect.unlink(missing_ok=True)

    def _upgrade(self, connection: sqlite3.Connection, found: int) -> None:
        if found:
            schema.backup(connection, self.path)
        connection.execute("PRAGMA journal_mode = WAL")
        with _transacting(connection, "BEGIN IMMEDIATE", True):
            schema.apply(connection, self._steps)
            if not found:
                self._salvage(connection)

    # --- trouble -------------------------------------------------------------------------------

    def _free(self) -> int:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize

    def _lay_ballast(self) -> None:
        if self.ballast.exists() or self._free() < ROOM:
            return
        with contextlib.suppress(OSError), self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, BALLAST)

    def _make_room(self) -> None:
        if self._free() < BALLAST:
            with contextlib.suppress(OSError):
                self.ballast.unlink()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._told(error) from error

    def _told(self, error: sqlite3.DatabaseError) -> CellboxError:
        code = _code(error)
        if code in _DAMAGE:
            self._report_damage()
            return Unavailable(
                f"the state database {self.path} is damaged; it will be rebuilt from the records "
                "beside it: try again, and if this repeats, close every cellbox that uses the store"
            )
        if code == sqlite3.SQLITE_BUSY:
            return Unavailable(f"the state database {self.path} was busy for {BUSY_SECONDS:.0f} s")
        if code == sqlite3.SQLITE_FULL:
            return EngineError(
                f"no space left on the disk of {self.path}; remove what is not needed "
                "(container rm, image prune)"
            )
        if code == sqlite3.SQLITE_READONLY:
            return EngineError(f"the state database {self.path} cannot be written: read-only")
        return EngineError(f"the state database {self.path} failed: {error}")

    def _report_damage(self) -> None:
        """Leave word, and let go of the file, so that whoever is alone next rebuilds it."""
        self._leave_word()
        with self._mutex:
            self._damaged = True

    def _leave_word(self) -> None:
        """Let the next one who is alone look through the file."""
        with contextlib.suppress(OSError):
            self._suspect.touch()


@contextlib.contextmanager
def _transacting(connection: sqlite3.Connection, begin: str, durable: bool) -> Iterator[None]:
    if durable:
        connection.execute("PRAGMA synchronous = FULL")
    connection.execute(begin)
    try:
        yield
        if begin != _READ:
            faults.point("state.commit.before")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        if durable:
            connection.execute("PRAGMA synchronous = NORMAL")


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (the low byte; the rest is detail)."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _before_fork() -> None:
    for database in list(_every):
        database._mutex.acquire()
        database._close_idle()
        _forking.append(database)


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop()._mutex.release()


def _after_fork_in_child() -> None:
    while _forking:
        database = _forking.pop()
        _abandoned.extend(database._busy)
        database._unlock()
        database._reset()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
