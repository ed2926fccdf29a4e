"""The contract of a store: all that was written, nothing that was damaged, one writer at a time.

    for rule in stores.RULES:
        rule(MyStore)

A rule takes a factory, `open_store(folder)`, and works in a folder for temporary files. A store
that was made reads; as a context manager it is the one writer. `journal` and `artefact(key)` say
which files hold what it keeps: the rules damage those.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sweep.contracts.rules import Rule, equal, need, refused, rule
from sweep.contracts.store_trial import HANDED_OVER, Factory, example, same, saved, trial
from sweep.errors import InputError, StoreLockedError
from sweep.store.store import DamagedError
from sweep.tasks.task import Record

STRANGE_FILES = (b"\x00" * 50, b"{}\n", b'{"key": "a"}\n', b"[1]\n", b"null\n", b"\xff\xfe\n")
"""What may stand in a journal and is no record."""
STRANGE_TEXTS = (
    "",
    " ",
    "a\nb\r\n",
    "\u2028\u0085\x0c",
    '"}\\',
    "\x00\x1b[0m",
    "é\U0001f600\ufeff",
)


A, B, C = example("a"), example("b"), example("c", status="failed", error="no")

# -- records ---------------------------------------------------------------------------------


@rule
def what_is_added_is_read_again(make: Factory) -> None:
    """Records that were added are read again, by key, and by kind and label."""
    with trial(make, A, B, C) as on:
        on.keeps(A, B, C)
        store = on.read()
        equal([store.done(key) for key in "abcd"], [A, B, None, None], "`done` of a to d")
        equal(store.latest("evaluate", A.label), A, "the latest of its kind and label")
        equal(store.latest("simulate", A.label), None, "the latest of another kind")


@rule
def a_record_is_kept_when_add_returns(make: Factory) -> None:
    """A record is on the disk when `add` returns."""
    with trial(make) as on, on.read() as store:
        for count, record in enumerate((A, B), start=1):
            store.add(record)
            equal(len(on.read().records), count, "how many records another reader sees")


@rule
def the_last_record_of_a_key_counts(make: Factory) -> None:
    """Of several records of a key the last counts."""
    with trial(make, example("a", status="failed", error="no"), B, A) as on:
        on.keeps(A, B)
        equal(on.read().done("a"), A, "`done`")
        equal(on.read().latest("evaluate", A.label), A, "`latest`")


def survives(make: Factory, record: Record) -> None:
    """ContractError unless this record is read again as it was written."""
    with trial(make, record) as on:
        on.keeps(record)


@rule
def any_text_and_number_survives(make: Factory) -> None:
    """Any text and number that JSON can hold is read again to the last digit."""
    numbers = [0.1, -0.0, 1e-320, 1.7976931348623157e308, 2**60, -(2**60), None, True, [], {}]
    for text in STRANGE_TEXTS:
        survives(make, example("any", error=text, log=text, result={text: [text, *numbers]}))


@rule
def half_a_character_does_not_stop_a_run(make: Factory) -> None:
    """Text that no file can hold, as of a file name that is no UTF-8, is kept all the same."""
    odd = example("a", error="no file 'caf\udce9'", log="\ud800")
    with trial(make, odd, B) as on:
        on.keeps(odd, B)


@rule
def reading_makes_nothing(make: Factory) -> None:
    """A folder that is not there is an empty store, and reading does not make it."""
    with trial(make) as on:
        equal(on.read().records, {}, "what it keeps")
        need(not on.folder.exists(), "the folder was made")


@rule
def only_a_writer_adds(make: Factory) -> None:
    """Nothing is added to a store that is not open for writing."""
    with trial(make) as on:
        with refused(RuntimeError, "`add`", "not open for writing"):
            on.read().add(A)
        equal(on.read().records, {}, "what it keeps")


@rule
def a_store_that_cannot_be_is_named(make: Factory) -> None:
    """A folder that cannot be a store is an error that names it."""
    with trial(make) as on:
        on.folder.write_text("in the way")
        below = on.folder / "below"
        with refused(InputError, "a store below a file", str(below)), make(below):
            pass


# -- damage ----------------------------------------------------------------------------------


@rule
def a_crash_while_writing_loses_one_record(make: Factory) -> None:
    """A record that was cut short is lost alone, named, and the next writer mends the rest."""
    with trial(make, A, B, C) as on:
        journal = on.read().journal
        journal.write_bytes(journal.read_bytes()[:-40])
        store = on.read()
        equal(store.records, {"a": A, "b": B}, "what is left")
        equal(len(store.damaged), 1, "how much is named as damaged")
        on.fill(example("d"))
        on.keeps(A, B, example("d"))


@rule
def a_byte_of_a_record_that_flipped_is_noticed(make: Factory) -> None:
    """No flipped byte gives a wrong record, nor costs others than it touched, nor is silent."""
    written = {"a": A, "b": B, "c": C}
    with trial(make, A, B, C) as on:
        journal = on.read().journal
        content = journal.read_bytes()
        for index in range(len(content)):
            journal.write_bytes(_flipped(content, index))
            store = on.read()
            wrong = [key for key, record in store.records.items() if written.get(key) != record]
            lost = len(written) - len(store.records)
            need(not wrong, f"with byte {index} flipped, record {wrong[:1]} is another")
            need(lost <= 2, f"with byte {index} flipped, {lost} records are lost")
            need(not lost or bool(store.damaged), f"with byte {index} flipped, damage is not named")


def _flipped(content: bytes, index: int) -> bytes:
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


@rule
def what_is_no_record_is_set_aside(make: Factory) -> None:
    """What is no record is named and left out, and the store is used as before."""
    for content in STRANGE_FILES:
        with trial(make) as on:
            on.folder.mkdir()
            on.read().journal.write_bytes(content)
            store = on.read()
            equal(store.records, {}, f"what is read of {content!r}")
            equal(len(store.damaged), 1, f"how much of {content!r} is named as damaged")
            on.fill(A)
            on.keeps(A)


# -- one writer ------------------------------------------------------------------------------


@rule
def a_second_writer_is_told_of_the_first(make: Factory) -> None:
    """A second writer is refused with the name of the first; readers are not."""
    who = f"process {os.getpid()}"
    with trial(make, A) as on, on.read():
        with refused(StoreLockedError, "a second writer", who), on.read():
            pass
        need(who in on.read().holder(), f"`holder` is {on.read().holder()!r}")
        on.keeps(A)


@rule
def the_lock_is_let_go_after_an_error(make: Factory) -> None:
    """A writer that ends by an error holds nothing."""
    with trial(make) as on:
        with refused(KeyError, "an error inside"), on.read():
            raise KeyError("inside")
        equal(on.read().holder(), "", "who writes to it")
        on.fill(A)
        on.keeps(A)


@rule
def a_writer_sees_what_was_added_before(make: Factory) -> None:
    """A writer sees what another has added since the store was made."""
    with trial(make) as on:
        mine = on.read()
        on.fill(A)
        with mine:
            equal(mine.done("a"), A, "the other's record")


# -- what tasks hand over --------------------------------------------------------------------


@rule
def what_is_saved_is_loaded_again(make: Factory) -> None:
    """Arrays and traces are loaded as they were saved, and a second save leaves nothing over."""
    for value in HANDED_OVER:
        with trial(make) as on:
            with on.read() as store:
                store.save("k", value())
                once = _files(on.folder)
                store.save("k", value())
                equal(_files(on.folder), once, "the files after a second save")
            need(on.read().keeps("k"), f"{value.__name__} that was saved is not kept")
            need(same(on.read().load("k"), value()), f"{value.__name__} is loaded as another")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@rule
def what_was_never_saved_is_not_kept(make: Factory) -> None:
    """What was never saved is not kept, and to load it is an error that names it."""
    with trial(make, A) as on:
        need(not on.read().keeps("a"), "`keeps` says yes")
        equal(on.read().artefact("a"), None, "where it is kept")
        with refused(DamagedError, "`load`", "nothing is kept under a"):
            on.read().load("a")


@rule
def a_damaged_artefact_is_set_aside(make: Factory) -> None:
    """A damaged artefact is named, is not loaded twice, and can be saved again."""
    for value in HANDED_OVER:
        for harm in ("cut", "flip", "empty"):
            with trial(make) as on:
                path = saved(on, "k", value())
                content, what = path.read_bytes(), f"{value.__name__}, {harm}"
                flipped = _flipped(content, len(content) // 2)
                path.write_bytes({"cut": content[:-9], "flip": flipped, "empty": b""}[harm])
                store = on.read()
                equal([store.keeps("k"), store.keeps("k")], [False, False], f"`keeps` of {what},")
                equal(len(store.damaged), 1, f"how much is named as damaged of {what},")
                saved(on, "k", value())
                need(same(on.read().load("k"), value()), f"{what} is not loaded when saved again")


@rule
def no_byte_of_an_artefact_flips_unnoticed(make: Factory) -> None:
    """With any byte flipped, an artefact is refused or still what was saved."""
    for value in HANDED_OVER:
        with trial(make) as on:
            path = saved(on, "k", value())
            content, store = path.read_bytes(), on.read()
            for index in range(len(content)):
                path.write_bytes(_flipped(content, index))
                try:
                    right = same(store.load("k"), value())
                except DamagedError:
                    continue
                need(right, f"{value.__name__} with byte {index} flipped is loaded as another")


@rule
def an_artefact_is_its_tasks_own(make: Factory) -> None:
    """A whole artefact under the name of another key is not loaded."""
    for value in HANDED_OVER:
        with trial(make) as on:
            path, other = saved(on, "k", value()), saved(on, "l", value())
            shutil.copyfile(path, other)
            need(not on.read().keeps("l"), f"{value.__name__} of task k is loaded as that of l")
            need(on.read().keeps("k"), f"{value.__name__} of task k is not kept")


RULES: tuple[Rule[Factory], ...] = (
    what_is_added_is_read_again,
    a_record_is_kept_when_add_returns,
    the_last_record_of_a_key_counts,
    any_text_and_number_survives,
    half_a_character_does_not_stop_a_run,
    reading_makes_nothing,
    only_a_writer_adds,
    a_store_that_cannot_be_is_named,
    a_crash_while_writing_loses_one_record,
    a_byte_of_a_record_that_flipped_is_noticed,
    what_is_no_record_is_set_aside,
    a_second_writer_is_told_of_the_first,
    the_lock_is_let_go_after_an_error,
    a_writer_sees_what_was_added_before,
    what_is_saved_is_loaded_again,
    what_was_never_saved_is_not_kept,
    a_damaged_artefact_is_set_aside,
    no_byte_of_an_artefact_flips_unnoticed,
    an_artefact_is_its_tasks_own,
)
