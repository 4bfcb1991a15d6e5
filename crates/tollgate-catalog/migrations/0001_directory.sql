-- One schema for SQLite and PostgreSQL: only what both understand. Times are milliseconds since the Unix epoch;
-- `version` is the number of the change that wrote the row.

CREATE TABLE catalog_state (
    singleton        BIGINT NOT NULL PRIMARY KEY CHECK (singleton = 1),
    -- The number of the last change.
    version          BIGINT NOT NULL,
    -- The number of the last change of what every node keeps in memory.
    snapshot_version BIGINT NOT NULL,
    CHECK (snapshot_version BETWEEN 1 AND version)
);
INSERT INTO catalog_state (singleton, version, snapshot_version) VALUES (1, 1, 1);

CREATE TABLE tiers (
    id       TEXT   NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
    name     TEXT   NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    priority TEXT   NOT NULL CHECK (priority IN ('internal', 'premium', 'standard', 'batch')),
    version  BIGINT NOT NULL
);
-- Everyone's who has no other.
INSERT INTO tiers (id, name, priority, version) VALUES ('default', 'default', 'standard', 1);

CREATE TABLE model_tiers (
    id      TEXT   NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
    name    TEXT   NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    version BIGINT NOT NULL
);

CREATE TABLE models (
    id         TEXT   NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
    name       TEXT   NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    model_tier TEXT   NOT NULL REFERENCES model_tiers (id),
    version    BIGINT NOT NULL
);
CREATE INDEX models_by_model_tier ON models (model_tier);

CREATE TABLE tenants (
    id      TEXT   NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
    name    TEXT   NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    tier    TEXT   REFERENCES tiers (id),
    version BIGINT NOT NULL
);
CREATE INDEX tenants_by_tier ON tenants (tier);

CREATE TABLE users (
    id        TEXT   NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
    tenant_id TEXT   NOT NULL REFERENCES tenants (id),
    name      TEXT   NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    tier      TEXT   REFERENCES tiers (id),
    version   BIGINT NOT NULL,
    UNIQUE (id, tenant_id)
);
CREATE INDEX users_by_tenant ON users (tenant_id, id);
CREATE INDEX users_by_tier ON users (tier, id);

CREATE TABLE api_keys (
    id           TEXT   NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
    name         TEXT   NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    tenant_id    TEXT   NOT NULL REFERENCES tenants (id),
    user_id      TEXT,
    tier         TEXT   REFERENCES tiers (id),
    expires_ms   BIGINT CHECK (expires_ms >= 0),
    revoked      BIGINT NOT NULL CHECK (revoked IN (0, 1)),
    prefix       TEXT   NOT NULL,
    -- The keyed hash of the secret, in hexadecimal digits.
    hash         TEXT   NOT NULL UNIQUE CHECK (length(hash) = 64),
    last_used_ms BIGINT CHECK (last_used_ms >= 0),
    version      BIGINT NOT NULL,
    -- The user is one of the tenant.
    FOREIGN KEY (user_id, tenant_id) REFERENCES users (id, tenant_id)
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, id);
CREATE INDEX api_keys_by_user ON api_keys (user_id, id);
CREATE INDEX api_keys_by_tier ON api_keys (tier, id);

CREATE TABLE policies (
    id       TEXT   NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
    -- The policy as JSON, as in a policy file.
    document TEXT   NOT NULL,
    version  BIGINT NOT NULL
);

CREATE TABLE changes (
    id        BIGINT NOT NULL PRIMARY KEY,
    at_ms     BIGINT NOT NULL,
    actor     TEXT   NOT NULL,
    action    TEXT   NOT NULL CHECK (action IN ('create', 'update', 'delete')),
    kind      TEXT   NOT NULL,
    record_id TEXT   NOT NULL,
    -- What caches know the record by: the hash of an API key, the id of any other.
    cached_as TEXT   NOT NULL,
    -- The record before and after, as JSON.
    before    TEXT,
    after     TEXT,
    CHECK (before IS NOT NULL OR after IS NOT NULL)
);
CREATE INDEX changes_by_record ON changes (record_id, id);
CREATE INDEX changes_by_actor ON changes (actor, id);
