-- What tells whether API keys are still hashed with the same secret: the keyed hash of a constant. Null until it is known.
ALTER TABLE catalog_state ADD COLUMN api_key_check TEXT;
