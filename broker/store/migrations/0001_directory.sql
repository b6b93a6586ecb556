-- The first schema of directory.db. A released migration is never edited: add the next file.
-- Times are Unix seconds. Names and patterns are validated by the crate before they come here;
-- the CHECKs are the second line.

-- One row. `generation` grows with each committed change of anything else.
CREATE TABLE meta (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    generation  INTEGER NOT NULL CHECK (generation >= 1)
) STRICT;
INSERT INTO meta (id, generation) VALUES (1, 1);

-- AUTOINCREMENT: the number of a purged tenant is never given to another one.
CREATE TABLE tenants (
    id          INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967295),
    name        TEXT NOT NULL UNIQUE CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 63),
    created_at  INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;
INSERT INTO tenants (id, name) VALUES (1, 'default');

CREATE TABLE principals (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id   INTEGER NOT NULL REFERENCES tenants (id),
    kind        TEXT NOT NULL CHECK (kind IN ('user', 'device', 'admin')),
    name        TEXT NOT NULL CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 256),
    enabled     INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at  INTEGER NOT NULL DEFAULT (unixepoch()),
    UNIQUE (tenant_id, name),
    -- What principal_roles refers to, so that a role never crosses tenants.
    UNIQUE (id, tenant_id)
) STRICT;

-- `kind` says how `phc` is verified. A reader skips kinds that it does not know.
CREATE TABLE credentials (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    principal_id  INTEGER NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    kind          TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    phc           TEXT NOT NULL CHECK (length(phc) BETWEEN 1 AND 1024),
    expires_at    INTEGER,
    created_at    INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;
CREATE INDEX credentials_of_principal ON credentials (principal_id);

CREATE TABLE roles (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id   INTEGER NOT NULL REFERENCES tenants (id),
    name        TEXT NOT NULL CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 256),
    created_at  INTEGER NOT NULL DEFAULT (unixepoch()),
    UNIQUE (tenant_id, name),
    UNIQUE (id, tenant_id)
) STRICT;

CREATE TABLE principal_roles (
    principal_id  INTEGER NOT NULL,
    role_id       INTEGER NOT NULL,
    tenant_id     INTEGER NOT NULL,
    PRIMARY KEY (principal_id, role_id),
    FOREIGN KEY (principal_id, tenant_id) REFERENCES principals (id, tenant_id) ON DELETE CASCADE,
    FOREIGN KEY (role_id, tenant_id) REFERENCES roles (id, tenant_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX principals_of_role ON principal_roles (role_id);

-- `actions` is the bit set of core::access::Actions. `subject` is a user's or role's name, '' for
-- all: a name and not a reference, since users may also come from a plugin or a token.
CREATE TABLE rules (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     INTEGER NOT NULL REFERENCES tenants (id),
    effect        TEXT NOT NULL CHECK (effect IN ('allow', 'deny')),
    actions       INTEGER NOT NULL CHECK (actions BETWEEN 1 AND 255),
    pattern       TEXT NOT NULL CHECK (length(CAST(pattern AS BLOB)) BETWEEN 1 AND 65535),
    subject_kind  TEXT NOT NULL CHECK (subject_kind IN ('user', 'role', 'all')),
    subject       TEXT NOT NULL CHECK ((subject_kind = 'all') = (subject = '')),
    created_at    INTEGER NOT NULL DEFAULT (unixepoch()),
    UNIQUE (tenant_id, subject_kind, subject, pattern, effect, actions)
) STRICT;

CREATE TABLE plugins (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id   INTEGER NOT NULL REFERENCES tenants (id),
    name        TEXT NOT NULL CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 63),
    sha256      TEXT NOT NULL CHECK (length(sha256) = 64 AND sha256 NOT GLOB '*[^0-9a-f]*'),
    config      TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(config)),
    hooks       TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(hooks)),
    grants      TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(grants)),
    enabled     INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at  INTEGER NOT NULL DEFAULT (unixepoch()),
    UNIQUE (tenant_id, name)
) STRICT;
