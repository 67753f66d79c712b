"""The schema of a CONTINUUM `memory.db`: twelve tables, twenty-two indexes, foreign keys where they are natural."""

from __future__ import annotations

import sqlite3

USER_VERSION = 7  # the service numbers its migrations here

TABLES = (
    """CREATE TABLE tenants (
        tenant_id TEXT PRIMARY KEY, name TEXT NOT NULL, plan TEXT NOT NULL, settings TEXT NOT NULL, created_at TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE entities (
        id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL REFERENCES tenants(tenant_id), name TEXT NOT NULL,
        entity_type TEXT NOT NULL, description TEXT NOT NULL, properties TEXT NOT NULL, importance REAL NOT NULL,
        access_count INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT
    )""",
    """CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tenant_id TEXT NOT NULL REFERENCES tenants(tenant_id),
        conversation_id TEXT NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, token_count INTEGER NOT NULL,
        metadata TEXT NOT NULL, created_at TEXT NOT NULL
    )""",
    """CREATE TABLE decisions (
        id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL REFERENCES tenants(tenant_id),
        message_id INTEGER REFERENCES messages(id), title TEXT NOT NULL, rationale TEXT NOT NULL, alternatives TEXT NOT NULL,
        confidence REAL NOT NULL, outcome TEXT, decided_at TEXT NOT NULL
    )""",
    """CREATE TABLE attention_links (
        id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL REFERENCES entities(id),
        target_id INTEGER NOT NULL REFERENCES entities(id), relation TEXT NOT NULL, strength REAL NOT NULL,
        n_activations INTEGER NOT NULL, activated_at REAL NOT NULL
    )""",
    """CREATE TABLE compound_concepts (
        id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL REFERENCES tenants(tenant_id), name TEXT NOT NULL,
        entity_ids TEXT NOT NULL, summary TEXT NOT NULL, weight REAL NOT NULL, created_at TEXT NOT NULL
    )""",
    """CREATE TABLE auto_messages (
        id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL REFERENCES tenants(tenant_id),
        message_id INTEGER REFERENCES messages(id), trigger_kind TEXT NOT NULL, content TEXT NOT NULL, sent INTEGER NOT NULL,
        scheduled_at REAL NOT NULL
    )""",
    """CREATE TABLE intentions (
        id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL REFERENCES tenants(tenant_id),
        entity_id INTEGER REFERENCES entities(id), goal TEXT NOT NULL, status TEXT NOT NULL, priority INTEGER NOT NULL,
        plan TEXT NOT NULL, due_at TEXT, created_at TEXT NOT NULL
    )""",
    """CREATE TABLE concept_evolution (
        id INTEGER PRIMARY KEY, concept_id INTEGER NOT NULL REFERENCES compound_concepts(id), version INTEGER NOT NULL,
        change TEXT NOT NULL, state TEXT NOT NULL, evolved_at TEXT NOT NULL
    )""",
    """CREATE TABLE thinking_snapshots (
        id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, tenant_id TEXT NOT NULL REFERENCES tenants(tenant_id),
        message_id INTEGER REFERENCES messages(id), phase TEXT NOT NULL, thoughts TEXT NOT NULL, state TEXT NOT NULL,
        taken_at REAL NOT NULL
    )""",
    """CREATE TABLE code_memories (
        id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL REFERENCES tenants(tenant_id),
        entity_id INTEGER REFERENCES entities(id), path TEXT NOT NULL, language TEXT NOT NULL, symbol TEXT NOT NULL,
        source TEXT NOT NULL, content_hash TEXT NOT NULL, indexed_at TEXT NOT NULL
    )""",
    """CREATE TABLE embeddings (
        id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL REFERENCES tenants(tenant_id), owner_kind TEXT NOT NULL,
        owner_id INTEGER NOT NULL, model TEXT NOT NULL, n_dims INTEGER NOT NULL, vector BLOB NOT NULL, created_at TEXT NOT NULL
    )""",
)

INDEXES = (
    "CREATE INDEX entities_by_name ON entities(tenant_id, name)",
    "CREATE INDEX entities_by_type ON entities(entity_type)",
    "CREATE INDEX messages_by_conversation ON messages(conversation_id)",
    "CREATE INDEX messages_by_time ON messages(tenant_id, created_at)",
    "CREATE INDEX decisions_by_time ON decisions(tenant_id, decided_at)",
    "CREATE INDEX decisions_by_message ON decisions(message_id)",
    "CREATE INDEX attention_links_by_source ON attention_links(source_id, target_id)",
    "CREATE INDEX attention_links_by_target ON attention_links(target_id)",
    "CREATE INDEX compound_concepts_by_name ON compound_concepts(tenant_id, name)",
    "CREATE INDEX auto_messages_by_schedule ON auto_messages(sent, scheduled_at)",
    "CREATE INDEX auto_messages_by_message ON auto_messages(message_id)",
    "CREATE INDEX intentions_by_status ON intentions(tenant_id, status, priority)",
    "CREATE INDEX intentions_by_entity ON intentions(entity_id)",
    "CREATE INDEX intentions_by_due ON intentions(due_at)",
    "CREATE INDEX concept_evolution_by_version ON concept_evolution(concept_id, version)",
    "CREATE INDEX concept_evolution_by_time ON concept_evolution(evolved_at)",
    "CREATE UNIQUE INDEX thinking_snapshots_by_sequence ON thinking_snapshots(sequence)",
    "CREATE INDEX thinking_snapshots_by_message ON thinking_snapshots(message_id)",
    "CREATE INDEX code_memories_by_path ON code_memories(path, symbol)",
    "CREATE INDEX code_memories_by_hash ON code_memories(content_hash)",
    "CREATE INDEX code_memories_by_entity ON code_memories(entity_id)",
    "CREATE UNIQUE INDEX embeddings_by_owner ON embeddings(owner_kind, owner_id)",
)


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables without their indexes, and set `user_version`."""
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {USER_VERSION}")


def create_indexes(connection: sqlite3.Connection) -> None:
    """Create the indexes: sorting filled tables once is several times faster than filling indexed ones."""
    for statement in INDEXES:
        connection.execute(statement)
