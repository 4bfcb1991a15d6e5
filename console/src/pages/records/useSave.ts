/** Saving a record: what may come of it, and what then can be done. */
import { useState } from 'react';

import { ProblemError } from '../../api/problem';
import { createRecord, getRecord, replaceRecord } from '../../api/records';
import type { RecordKind, Versioned } from '../../api/admin';

/** The record is not the one that was edited: it was changed meanwhile, or deleted (null). */
export interface Conflict<Record> {
  theirs: Versioned<Record> | null;
  mine: object;
}

export interface Save<Record> {
  /** Why the last attempt failed; null if it did not. */
  error: unknown;
  conflict: Conflict<Record> | null;
  /** Saves `body` over the version that was last seen; resolves to what was saved, or null. */
  save: (body: object) => Promise<Record | null>;
  /** Saves over what is there now, or makes the record anew. */
  overwrite: () => Promise<Record | null>;
  /** Goes back to editing; the next save is meant for the version that was shown. */
  goOn: () => void;
}

function hasStatus(error: unknown, ...statuses: number[]): boolean {
  return error instanceof ProblemError && statuses.includes(error.status);
}

/** What is there now; null if nothing is. */
async function current<Record>(kind: RecordKind, id: string): Promise<Versioned<Record> | null> {
  try {
    return await getRecord<Record>(kind, id);
  } catch (error) {
    if (hasStatus(error, 404)) return null;
    throw error;
  }
}

export function useSave<Record>(
  kind: RecordKind,
  id: string | null,
  loadedEtag: string | null,
): Save<Record> {
  const [etag, setEtag] = useState(loadedEtag);
  const [error, setError] = useState<unknown>(null);
  const [conflict, setConflict] = useState<Conflict<Record> | null>(null);

  const attempt = async (body: object, over: string | null, isNew: boolean): Promise<Record | null> => {
    setError(null);
    try {
      const saved =
        isNew || id === null
          ? await createRecord<Record>(kind, body)
          : await replaceRecord<Record>(kind, id, body, over);
      return saved.record;
    } catch (refusal) {
      if (id === null || !hasStatus(refusal, 404, 412)) {
        setError(refusal);
        return null;
      }
    }
    try {
      setConflict({ theirs: await current<Record>(kind, id), mine: body });
    } catch (refusal) {
      setError(refusal);
    }
    return null;
  };

  return {
    error,
    conflict,
    save: (body) => attempt(body, etag, false),
    overwrite: async () => {
      if (conflict === null) return null;
      return attempt(conflict.mine, conflict.theirs?.etag ?? null, conflict.theirs === null);
    },
    goOn: () => {
      if (conflict?.theirs != null) setEtag(conflict.theirs.etag);
      setConflict(null);
    },
  };
}
