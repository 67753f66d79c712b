"""One row of each table: a function of the palette, the row's number and the rows that exist to refer to."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from continuum_tasks.sample import text

Row = tuple[str | int | float | bytes | None, ...]
LastIds = Mapping[str, int]  # table -> the highest id in it; every id from 1 may be referred to

_EPOCH = datetime(2025, 1, 6, 8, 0, tzinfo=UTC).timestamp()
_SECONDS_A_MESSAGE = 300.0
_MESSAGES_A_CONVERSATION = 24

# Rows per message, in an order in which parents precede children. Near 1 GiB that is a million rows.
SHARES: Mapping[str, float] = {
    "entities": 0.38,
    "messages": 1.0,
    "decisions": 0.30,
    "attention_links": 1.75,
    "compound_concepts": 0.13,
    "auto_messages": 0.40,
    "intentions": 0.20,
    "concept_evolution": 0.32,
    "thinking_snapshots": 0.16,
    "code_memories": 0.16,
}
EMBEDDED = ("entities", "messages", "decisions", "code_memories")  # each of their rows has one embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """What rows are made from; `tenants` repeats the busy ones."""

    rng: Random
    lexicon: text.Lexicon
    vectors: Vectors
    tenants: tuple[str, ...]


def tenant(palette: Palette, rank: int) -> Row:
    """Return the row of the tenant of that rank, 0 being the busiest."""
    name = text.name(palette.lexicon, palette.rng)
    slug = name.lower().replace(" ", "-").encode("ascii", "ignore").decode() + f"-{rank}"
    settings = f'{{"region": "eu-{1 + rank % 3}", "memory_days": {30 * (1 + rank)}, "features": ["recall", "links"]}}'
    return (slug, name, palette.rng.choice(("free", "team", "scale")), settings, _iso("entities", rank))


def busy_tenants(slugs: list[str]) -> tuple[str, ...]:
    """Repeat each tenant in proportion to 1 / rank, so that an even choice among the result is a Zipfian one."""
    return tuple(slug for rank, slug in enumerate(slugs) for _ in range(1 + 40 // (rank + 1)))


def entity(palette: Palette, row_id: int, last: LastIds) -> Row:
    rng, lexicon = palette.rng, palette.lexicon
    kind = rng.choice(("person", "project", "place", "topic", "tool", "organisation"))
    properties = f'{{"aliases": ["{rng.choice(lexicon.words)}"], "source": "message:{_recent(rng, last["messages"] or 1)}"}}'
    description = text.prose(lexicon, rng, _length(rng, 200))
    seen = (round(rng.random(), 4), rng.randrange(400), _iso("entities", row_id), None)
    return (row_id, _tenant(palette, row_id), text.name(lexicon, rng), kind, description, properties, *seen)


def message(palette: Palette, row_id: int, last: LastIds) -> Row:
    rng = palette.rng
    conversation = row_id // _MESSAGES_A_CONVERSATION
    content = text.prose(palette.lexicon, rng, _length(rng, 590))
    role = ("user", "assistant")[row_id % 2]
    about = f"{_recent(rng, last['entities'])}, {_recent(rng, last['entities'])}"
    metadata = (
        f'{{"model": "continuum-{1 + rng.randrange(3)}", "latency_ms": {rng.randrange(80, 9000)}, '
        f'"entities": [{about}], "trace": "{rng.getrandbits(64):016x}"}}'
    )
    # a multiplicative hash: neighbouring conversations get distant names, as random ones would be
    name = f"conv-{conversation * 2654435761 % 2**32:08x}"
    return (row_id, _tenant(palette, conversation), name, role, content, len(content) // 4, metadata, _iso("messages", row_id))


def decision(palette: Palette, row_id: int, last: LastIds) -> Row:
    rng, lexicon = palette.rng, palette.lexicon
    alternatives = f'["{text.prose(lexicon, rng, 60)}", "{text.prose(lexicon, rng, 60)}"]'
    rationale = text.prose(lexicon, rng, _length(rng, 640))
    outcome = rng.choice(("kept", "reversed", None, None))
    told = (text.name(lexicon, rng), rationale, alternatives, round(rng.random(), 3), outcome, _iso("decisions", row_id))
    return (row_id, _tenant(palette, row_id), _recent(rng, last["messages"]), *told)


def attention_link(palette: Palette, row_id: int, last: LastIds) -> Row:
    rng = palette.rng
    relation = rng.choice(("mentions", "causes", "part_of", "follows", "contradicts", "resembles"))
    ends = (_recent(rng, last["entities"]), 1 + rng.randrange(last["entities"]))
    return (row_id, *ends, relation, rng.random(), rng.randrange(60), _seconds("attention_links", row_id) + rng.random())


def compound_concept(palette: Palette, row_id: int, last: LastIds) -> Row:
    rng, lexicon = palette.rng, palette.lexicon
    members = ", ".join(str(_recent(rng, last["entities"])) for _ in range(5))
    summary = text.prose(lexicon, rng, _length(rng, 340))
    told = (f"[{members}]", summary, rng.random(), _iso("compound_concepts", row_id))
    return (row_id, _tenant(palette, row_id), text.name(lexicon, rng), *told)


def auto_message(palette: Palette, row_id: int, last: LastIds) -> Row:
    rng = palette.rng
    trigger = rng.choice(("reminder", "follow_up", "digest", "anniversary"))
    content = text.prose(palette.lexicon, rng, _length(rng, 400))
    due = _seconds("auto_messages", row_id) + 3600.0 * rng.randrange(1, 200)
    return (row_id, _tenant(palette, row_id), _recent(rng, last["messages"]), trigger, content, int(rng.random() < 0.9), due)


def intention(palette: Palette, row_id: int, last: LastIds) -> Row:
    rng, lexicon = palette.rng, palette.lexicon
    steps = ", ".join(f'{{"step": {n}, "do": "{text.prose(lexicon, rng, 40)}"}}' for n in range(1, 4))
    goal = text.prose(lexicon, rng, 90)
    state = (rng.choice(("open", "active", "done", "dropped")), rng.randrange(10))
    times = (_iso("intentions", row_id + rng.randrange(50)) if rng.random() < 0.6 else None, _iso("intentions", row_id))
    return (row_id, _tenant(palette, row_id), _recent(rng, last["entities"]), goal, *state, f"[{steps}]", *times)


def concept_evolution(palette: Palette, row_id: int, last: LastIds) -> Row:
    rng, lexicon = palette.rng, palette.lexicon
    concept_id = 1 + rng.randrange(last["compound_concepts"])
    state = f'{{"weight": {rng.random():.6f}, "members": [{_recent(rng, last["entities"])}], "drift": {rng.random():.6f}}}'
    change = text.prose(lexicon, rng, _length(rng, 400))
    return (row_id, concept_id, row_id // last["compound_concepts"] + 1, change, state, _iso("concept_evolution", row_id))


def thinking_snapshot(palette: Palette, row_id: int, last: LastIds) -> Row:
    """Return a snapshot whose sequence number equals its id; the writer numbers its own."""
    rng, lexicon = palette.rng, palette.lexicon
    focus = ", ".join(f'{{"entity": {_recent(rng, last["entities"])}, "attention": {rng.random():.4f}}}' for _ in range(8))
    thoughts = text.prose(lexicon, rng, _length(rng, 1600))
    where = (_tenant(palette, row_id), _recent(rng, last["messages"]), rng.choice(("recall", "weigh", "answer")))
    return (row_id, row_id, *where, thoughts, f'{{"focus": [{focus}]}}', _seconds("thinking_snapshots", row_id))


def code_memory(palette: Palette, row_id: int, last: LastIds) -> Row:
    rng, words = palette.rng, palette.lexicon.words
    path = f"src/{rng.choice(words)}/{rng.choice(words)}_{rng.choice(words)}.py"
    source = text.code(palette.lexicon, rng, _length(rng, 1500))
    told = (path, "python", rng.choice(words), source, f"{rng.getrandbits(256):064x}", _iso("code_memories", row_id))
    return (row_id, _tenant(palette, row_id), _recent(rng, last["entities"]), *told)


def embedding(palette: Palette, row_id: int, *, owner_kind: str, owner_id: int) -> Row:
    """Return the embedding of one row of the table `owner_kind`."""
    blob = vector(palette.vectors, palette.rng)
    owner = (_tenant(palette, owner_id), owner_kind, owner_id, "continuum-embed-2", N_DIMS)
    return (row_id, *owner, blob, _iso(owner_kind, owner_id))


MAKERS: Mapping[str, Callable[[Palette, int, LastIds], Row]] = {
    "entities": entity,
    "messages": message,
    "decisions": decision,
    "attention_links": attention_link,
    "compound_concepts": compound_concept,
    "auto_messages": auto_message,
    "intentions": intention,
    "concept_evolution": concept_evolution,
    "thinking_snapshots": thinking_snapshot,
    "code_memories": code_memory,
}


def insert_statement(table: str, row: Row) -> str:
    """Return the INSERT that takes rows shaped like this one."""
    return f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - table names are ours


def _recent(rng: Random, last_id: int) -> int:
    # the cube prefers the newest tenth of the rows: memory talks about what just happened
    return last_id - int(last_id * rng.random() ** 3)


def _length(rng: Random, mean: int) -> int:
    return min(int(rng.lognormvariate(-0.18, 0.6) * mean), 8 * mean)  # exp(-0.18 + 0.6² / 2) = 1


def _tenant(palette: Palette, number: int) -> str:
    return palette.tenants[number * 2654435761 % 2**32 % len(palette.tenants)]


def _seconds(table: str, row_id: int) -> float:
    return _EPOCH + row_id * _SECONDS_A_MESSAGE / SHARES[table]


def _iso(table: str, row_id: int) -> str:
    return datetime.fromtimestamp(round(_seconds(table, row_id)), UTC).isoformat(sep=" ")[:19]


N_DIMS = 384


_N_BYTES = 4 * N_DIMS


_LOW_BITS = int.from_bytes(b"\xff\xff\x00\x00" * N_DIMS, "little")  # the low 16 of 23 mantissa bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Unit vectors, each stored twice end to end so that any rotation of it is one slice."""

    doubled: tuple[bytes, ...]


def build(rng: Random, *, n_bases: int = 256) -> Vectors:
    """Draw the base vectors: 256 of them take 0.05 s and give 98,304 rotations."""
    return Vectors(doubled=tuple(2 * _unit(rng) for _ in range(n_bases)))


def vector(vectors: Vectors, rng: Random) -> bytes:
    """Return 384 little-endian float32: a rotated base vector with fresh low mantissa bits.

    Two bytes of every four are new, so no compressor finds a match, while the norm stays within 0.2 % of one.
    """
    at = 4 * rng.randrange(N_DIMS)
    base = vectors.doubled[rng.randrange(len(vectors.doubled))][at : at + _N_BYTES]
    noise = rng.getrandbits(8 * _N_BYTES) & _LOW_BITS
    return (int.from_bytes(base, "little") ^ noise).to_bytes(_N_BYTES, "little")


def _unit(rng: Random) -> bytes:
    values = [rng.gauss(0.0, 1.0) for _ in range(N_DIMS)]
    norm = math.sqrt(sum(value * value for value in values))
    packed = array("f", (value / norm for value in values))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()
