-- The built-in policy is a record like any other: listed, and removed only by deleting it. A catalog without policies had it
-- without a record; one with policies did not have it.
INSERT INTO policies (id, document, version)
    SELECT 'default', '{"id":"default","limit":100,"scope":"USER_MODEL","windowSeconds":3600}', snapshot_version
    FROM catalog_state
    WHERE NOT EXISTS (SELECT 1 FROM policies);
