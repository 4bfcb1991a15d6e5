-- The same id may belong to users of several tenants: a user is a tenant and an id. Neither database can change a primary
-- key in place in the same words, so the tables are copied.
CREATE TABLE users_of_tenants (
    id        TEXT   NOT NULL CHECK (length(id) BETWEEN 1 AND 256),
    tenant_id TEXT   NOT NULL REFERENCES tenants (id),
    name      TEXT   NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    tier      TEXT   REFERENCES tiers (id),
    version   BIGINT NOT NULL,
    PRIMARY KEY (id, tenant_id)
);
INSERT INTO users_of_tenants (id, tenant_id, name, tier, version)
    SELECT id, tenant_id, name, tier, version FROM users;

CREATE TABLE api_keys_of_tenants (
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
    FOREIGN KEY (user_id, tenant_id) REFERENCES users_of_tenants (id, tenant_id)
);
INSERT INTO api_keys_of_tenants (id, name, tenant_id, user_id, tier, expires_ms, revoked, prefix, hash, last_used_ms, version)
    SELECT id, name, tenant_id, user_id, tier, expires_ms, revoked, prefix, hash, last_used_ms, version FROM api_keys;

DROP TABLE api_keys;
DROP TABLE users;
ALTER TABLE users_of_tenants RENAME TO users;
ALTER TABLE api_keys_of_tenants RENAME TO api_keys;

CREATE INDEX users_by_tenant ON users (tenant_id, id);
CREATE INDEX users_by_tier ON users (tier, id);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, id);
CREATE INDEX api_keys_by_user ON api_keys (user_id, tenant_id, id);
CREATE INDEX api_keys_by_tier ON api_keys (tier, id);
