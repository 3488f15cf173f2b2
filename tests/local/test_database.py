"""The database file: transactions, threads, forks, crashes, damage, full and read-only disks."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import threading

import pytest

from cellbox.errors import EngineError, NotSupported, Unavailable
from cellbox.local import database as database_module
from cellbox.local.database import BALLAST, Database

STEPS = (("CREATE TABLE numbers (number INTEGER PRIMARY KEY, text TEXT)",),)


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "state.db", steps=STEPS)
    yield database
    database.close()


def insert(database, number, text="", **how):
    with database.write(**how) as connection:
        connection.execute("INSERT INTO numbers VALUES (?, ?)", (number, text))


def numbers(database):
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT number FROM numbers ORDER BY 1")]


def pragma(connection, name):
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


# --- transactions --------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing(database):
    insert(database, 1)
    with pytest.raises(KeyError), database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (2, '')")
        raise KeyError
    assert numbers(database) == [1]


def test_an_inner_transaction_is_part_of_the_outer_one(database):
    with pytest.raises(KeyError), database.write():
        insert(database, 1)
        assert numbers(database) == [1]
        raise KeyError
    assert numbers(database) == []


def test_reading_never_becomes_writing(database):
    with database.read(), pytest.raises(RuntimeError, match="cannot become"):
        insert(database, 1)


def test_a_reader_sees_one_snapshot(database):
    insert(database, 1)
    with database.read():
        assert numbers(database) == [1]
        writer = threading.Thread(target=insert, args=(database, 2))
        writer.start()
        writer.join()
        assert numbers(database) == [1]
    assert numbers(database) == [1, 2]


def test_a_query_is_part_of_the_transaction_around_it(database):
    insert(database, 1, "a")
    select = "SELECT text FROM numbers WHERE text >= ? ORDER BY number"
    with database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (2, 'b')")
        assert database.query(select, ("",)) == [("a",), ("b",)]
        other: list[object] = []
        reader = threading.Thread(target=lambda: other.extend(database.query(select, ("",))))
        reader.start()
        reader.join()
        assert other == [("a",)]
    assert database.query(select, ("b",)) == [("b",)]


@pytest.mark.parametrize("ask", [numbers, lambda one: one.query("SELECT number FROM numbers")])
def test_a_database_that_cannot_be_opened_is_told(tmp_path, ask):
    with pytest.raises(EngineError, match="cannot be"):
        ask(Database(tmp_path / "no/such/place/state.db", steps=STEPS))


def test_the_journal_is_a_wal_and_only_durable_commits_are_synced(database):
    with database.write() as connection:
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == 1
        assert pragma(connection, "foreign_keys") == 1
        assert pragma(connection, "busy_timeout") == 30000
    with database.write(durable=True) as connection:
        assert pragma(connection, "synchronous") == 2
    with database.write() as connection:
        assert pragma(connection, "synchronous") == 1


def test_many_threads_write(database):
    threads = [
        threading.Thread(
            target=lambda first=first: [insert(database, first + n) for n in range(20)]
        )
        for first in range(0, 100, 20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(database) == list(range(100))


def test_a_busy_database_is_told_in_a_sentence(database, tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.0)
    insert(database, 1)
    other = Database(tmp_path / "state.db", steps=STEPS)
    with database.write(), pytest.raises(Unavailable, match="busy"):
        insert(other, 2)
    other.close()


def test_a_closed_database_opens_again(database):
    insert(database, 1)
    database.close()
    assert numbers(database) == [1]


# --- forks and crashes ---------------------------------------------------------------------------


def in_child(work):
    """Run ``work`` in a forked child; its exit code (1 for an exception)."""
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(BaseException):
            work()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def open_files(path):
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [file for file in found if file.startswith(str(path))]


def test_no_connection_and_no_lock_crosses_a_fork(database, tmp_path):
    insert(database, 1)

    def look():
        assert open_files(tmp_path) == []
        insert(database, 2)

    assert in_child(look) == 0
    insert(database, 3)
    assert numbers(database) == [1, 2, 3]


def test_a_fork_inside_a_transaction_leaves_it_to_the_parent(database):
    with database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (1, '')")
        assert in_child(lambda: None) == 0
        connection.execute("INSERT INTO numbers VALUES (2, '')")
    assert numbers(database) == [1, 2]


def test_descriptors_do_not_survive_exec(database, tmp_path):
    with database.read():
        listed = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True)
    assert str(tmp_path) not in listed.stdout


def test_a_kill_in_the_middle_of_a_transaction_loses_that_one_only(database):
    insert(database, 1)

    def die():
        with database.write() as connection:
            connection.executemany(
                "INSERT INTO numbers VALUES (?, ?)", [(n, "x" * 5000) for n in range(10, 500)]
            )
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    assert numbers(database) == [1]
    insert(database, 2)


@pytest.mark.parametrize("clean", [True, False])
def test_only_after_an_unclean_end_the_file_is_looked_through(tmp_path, clean):
    database = Database(tmp_path / "state.db", steps=STEPS, salvage=salvage)
    with database.write() as connection:
        connection.execute("CREATE TABLE more (text TEXT)")
        connection.executemany("INSERT INTO more VALUES (?)", [("x" * 3000,) for _ in range(50)])
    database.close()

    def use():
        insert(database, 1)
        database.close() if clean else os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(use) == (0 if clean else -signal.SIGKILL)
    with open(tmp_path / "state.db", "r+b") as file:
        file.seek(30 * 4096)
        file.write(b"\xff" * 4096)

    assert numbers(database) == ([1, 42] if clean else [42])
    assert len(list(tmp_path.glob("state.db.damaged-*"))) == (not clean)
    database.close()


# --- damage --------------------------------------------------------------------------------------


def salvage(connection):
    connection.execute("INSERT INTO numbers VALUES (42, 'salvaged')")


def test_a_file_that_is_no_database_is_set_aside(tmp_path):
    (tmp_path / "state.db").write_bytes(b"no database at all" * 1000)
    database = Database(tmp_path / "state.db", steps=STEPS, salvage=salvage)

    assert numbers(database) == [42]
    aside = list(tmp_path.glob("state.db.damaged-*"))
    assert [path.read_bytes()[:18] for path in aside] == [b"no database at all"]
    database.close()


@pytest.mark.parametrize("ask", [numbers, lambda one: one.query("SELECT text FROM numbers")])
def test_damage_found_at_work_is_mended_at_the_next_use(tmp_path, ask):
    database = Database(tmp_path / "state.db", steps=STEPS, salvage=salvage)
    with database.write() as connection:
        connection.executemany(
            "INSERT INTO numbers VALUES (?, ?)", [(n, "x" * 500) for n in range(100, 600)]
        )
    database.close()
    with open(tmp_path / "state.db", "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(tmp_path / "state.db") - 4096))

    with pytest.raises(Unavailable, match="damaged"):
        ask(database)
    assert numbers(database) == [42]
    database.close()


def test_a_crash_while_a_damaged_file_is_replaced_is_made_good(tmp_path, python):
    (tmp_path / "state.db").write_bytes(b"no database at all" * 1000)
    code = "import sys; from pathlib import Path; from cellbox.local.database import Database\n"
    code += "with Database(Path(sys.argv[1])).read(): pass"

    killed = python(code, tmp_path / "state.db", fault="state.damaged.renamed:kill")
    assert killed.wait() == -signal.SIGKILL

    database = Database(tmp_path / "state.db", steps=STEPS, salvage=salvage)
    assert numbers(database) == [42]
    database.close()


def test_word_of_damage_is_kept_until_the_file_is_found_sound(tmp_path, database):
    insert(database, 1)
    database.close()
    (tmp_path / "state.db.suspect").touch()

    assert numbers(database) == [1]
    assert not (tmp_path / "state.db.suspect").exists()


def test_a_wal_without_its_database_is_not_taken_for_one(tmp_path):
    def die():
        insert(Database(tmp_path / "state.db", steps=STEPS), 1)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    (tmp_path / "state.db").unlink()
    assert (tmp_path / "state.db-wal").stat().st_size > 0

    database = Database(tmp_path / "state.db", steps=STEPS, salvage=salvage)
    assert numbers(database) == [42]
    database.close()


def test_an_empty_file_is_a_new_database(tmp_path):
    (tmp_path / "state.db").touch()
    database = Database(tmp_path / "state.db", steps=STEPS, salvage=salvage)

    assert numbers(database) == [42]
    database.close()


def test_a_salvage_that_fails_is_tried_again(tmp_path):
    def fail(connection):
        raise KeyError

    with pytest.raises(KeyError):
        numbers(Database(tmp_path / "state.db", steps=STEPS, salvage=fail))
    database = Database(tmp_path / "state.db", steps=STEPS, salvage=salvage)
    assert numbers(database) == [42]
    database.close()


# --- versions ------------------------------------------------------------------------------------

MORE = (
    *STEPS,
    ("ALTER TABLE numbers ADD COLUMN colour TEXT", "INSERT INTO numbers VALUES (9,'','')"),
)


def test_an_older_database_is_copied_and_brought_up_to_date(tmp_path, database):
    insert(database, 1)
    database.close()

    newer = Database(tmp_path / "state.db", steps=MORE)
    assert numbers(newer) == [1, 9]
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db.v1")) as copy:
        assert copy.execute("SELECT number FROM numbers").fetchall() == [(1,)]
    newer.close()


def test_a_step_that_fails_leaves_the_old_version(tmp_path, database):
    insert(database, 1)
    database.close()

    with pytest.raises(EngineError):
        numbers(Database(tmp_path / "state.db", steps=(*STEPS, (*MORE[1], "NONSENSE"))))
    assert numbers(database) == [1]


def test_a_newer_database_is_refused(tmp_path):
    newer = Database(tmp_path / "state.db", steps=MORE)
    numbers(newer)

    for still_open in (True, False):
        with pytest.raises(NotSupported, match=r"newer cellbox \(schema 2, this one knows 1\)"):
            numbers(Database(tmp_path / "state.db", steps=STEPS))
        if still_open:
            newer.close()


def test_a_database_that_an_older_engine_uses_is_not_changed(tmp_path, database, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.05)
    insert(database, 1)

    newer = Database(tmp_path / "state.db", steps=MORE)
    with pytest.raises(Unavailable, match="in use by an older cellbox"):
        numbers(newer)
    database.close()
    assert numbers(newer) == [1, 9]
    newer.close()


# --- the disk ------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """A file system of 4 MiB."""
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path])
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(path):
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_on_a_full_disk_adding_fails_and_removing_works(disk, monkeypatch):
    monkeypatch.setattr(database_module, "ROOM", BALLAST)
    database = Database(disk / "state.db", steps=STEPS)
    insert(database, 1, "x" * 100_000)
    assert database.ballast.stat().st_size == BALLAST

    fill(disk / "filler")
    with pytest.raises(EngineError, match="no space left on the disk of .*remove"):
        for number in range(2, 100):
            insert(database, number, "x" * 100_000)
    with database.write(shrinking=True) as connection:
        connection.execute("DELETE FROM numbers WHERE number = 1")
    assert 1 not in numbers(database)
    assert not database.ballast.exists()

    database.close()
    (disk / "filler").unlink()
    numbers(database)
    assert database.ballast.exists()
    database.close()


def test_a_read_only_disk_can_be_read(disk):
    database = Database(disk / "state.db", steps=STEPS)
    insert(database, 1)
    database.close()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

    assert numbers(database) == [1]
    with pytest.raises(EngineError, match="read-only"):
        insert(database, 2)
    with pytest.raises(NotSupported, match="newer"):
        numbers(Database(disk / "state.db", steps=()))
    database.close()
