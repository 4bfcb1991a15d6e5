-- The layout of a log in Redis (docs/decisions/0010). Every script starts with this file.
--
-- The key of a limit is a string: the newest entries of the log, then its state (STATE_BYTES).
--   entry  the timestamp in µs after `base` (I6) and, in a WEIGHTED string, its cost (I7); in a UNIT string it is 1.
--          An entry with cost 0 was refunded; its timestamp is `base`.
--   state  tag     UNIT or WEIGHTED, with the version
--          base    see entry
--          offset  how far the log's own time is ahead of Redis's clock (R7)
--          expiry  when the key expires
--          first   the number of the first entry in the string, a multiple of BLOCK
--          next    the number that the next entry gets
--          head    the number of the first entry that counted at the last admission
--          oldest  no entry that counts is older
--          newest  the timestamp of the newest entry with a cost
--          total   the costs from `head` on
--          Times are µs in the log's own time.
-- A long log has its older entries in a hash, whose key is the same with `b` appended. A field `N` is block N: `base`
-- and the entries BLOCK·N to BLOCK·N + 63, unit or weighted according to its length. `aN` has the sum and the last
-- timestamp (dd) of each of the blocks FANOUT·N to FANOUT·N + 31, and `bN` has the same for each `aM`. `c` is the first
-- block that is not deleted yet, if some are due; `v` marks the hash as written by Tollgate.
-- The slots that leases hold are a sorted set, whose key ends with `s`: each lease, by the time in µs at which it expires.
-- What leases give back when they expire is one too, whose key ends with `x` (refund.lua).
-- All numbers stay below 2^53, which Lua's doubles hold exactly.
local spread = unpack
local call, pack, unpack, floor, ceil = redis.call, struct.pack, struct.unpack, math.floor, math.ceil
local UNIT, WEIGHTED, COUNTER, BUCKET, CALENDAR = 66132, 131668, 197204, 262740, 328276
local STATE, STATE_BYTES, STATE_FROM = '<I4ddddddddd', 76, '-76'
local BLOCK, FANOUT, RECORD_BYTES = 64, 32, 16
-- When the string has this many entries, a block of them is moved to the hash.
local MOST_IN_STRING = 192
-- The most by which a timestamp may be after its base: half of what 6 bytes hold.
local MOST_AFTER_BASE = 140737488355328
-- The most blocks that one admission deletes.
local MOST_DELETED = 16
-- How many entries are read at once to see which have left.
local READ_AHEAD = 8
-- The most that one log may hold: amounts are below 2^53.
local MOST_TOTAL = 9007199254740991
-- A hash expires this much later than its string, so that no string is ever without it.
local HASH_OUTLIVES_MS = 500
-- The field `v` of a hash.
local HASH_MARK = 'T2'
-- A counter: its tag, the start of its window, the counts of this window and of the one before, and its length.
local COUNTER_STATE = '<I4I4I4I7I7I4I4'
-- A token bucket: its tag, the start of a window, the tokens missing since then, the refill, the length of the window, and
-- when in the window it was written.
local BUCKET_STATE = '<I4I4I4I7I7I4I4I4I4'
-- A calendar: its tag, the start and the end of the period in seconds, and the costs admitted since.
local CALENDAR_STATE = '<I4I4I4I7'

-- A lease: its tag, a number that grows with every change, the sequence number of the last update, what became of it, what
-- the last extension was told, its time to live in ms, when it expires and until when it is known (in µs), for how many ms
-- that is after it expires, when it was reserved (in µs), and how many parts follow.
local LEASE_TAG, LEASE_STATE, LEASE_BYTES = 393812, '<I4ddBBdddddI2', 64
-- A part of a lease: the index of its limit, the number and the timestamp of its entry if that is a log, or the period if that is a
-- calendar, when it was charged,
-- the usage right after that, and its cost. What follows the parts only `lease_record.rs` reads.
local LEASE_PART, PART_BYTES = '<I2ddI4I4dd', 42
-- What is remembered of the request id of a reservation: this tag, for how many µs, the end of the key of the lease, and the
-- answer with what reserve.lua adds.
local NAMED_TAG, NAMED_STATE, NAMED_BYTES, DIGEST_LETTERS = 'T\4\0\6', '<dc27', 39, 27
-- The beginning of a hold that is given back when its lease expires: the index of the limit in the lease, and its kind and its window
-- as change.lua reads them.
local HOLD, HOLD_BYTES = '<I2BI4I4', 11
-- The bytes of a change, which change.lua reads.
local CHANGE_BYTES = 49
-- The most slots of leases that have expired that one call removes.
local MOST_FREED = 64

local function foreign(key)
  error({ err = 'TOLLGATE the key ' .. key .. ' holds a value that this version of Tollgate did not write' })
end

-- For a key of which nothing was read: an empty string is not ours either.
local function must_be_missing(key)
  if call('GET', key) then foreign(key) end
end

-- Whether these fields of a state can belong together. If they cannot, something else has written to the key. Damage
-- that this does not see leads to an error of Lua or to a time or a total that cannot be, before anything is written.
local function is_plausible(tag, base, offset, expiry, first, next_no, head, oldest, newest, total)
  return first >= 0 and first % BLOCK == 0 and next_no >= first and next_no - first <= MOST_IN_STRING
    and head >= 0 and head < next_no and total >= 1 and total <= MOST_TOTAL and total % 1 == 0
    and (tag == WEIGHTED or head < first or total == next_no - head)
    and base <= newest and newest - base < MOST_AFTER_BASE and oldest <= newest and newest <= expiry and offset >= 0
    and (offset + next_no + head) % 1 == 0 and base % 1 == 0 and oldest % 1 == 0 and newest % 1 == 0
end
