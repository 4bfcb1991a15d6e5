-- Decides the limits of one check at one moment and charges all of them or none (R1-R3, R6-R10, R12).
--
-- KEYS     one for each limit, and last the key of the request id, if there is one.
-- ARGV[1]  'c' to charge or 'p' to peek; then, in tests, a time and more life for keys (12 bytes); then, with
--          a request id, the longest of the windows in seconds and nanoseconds (8 bytes).
-- ARGV[2…] for each limit what `wire.rs` packs.
-- Answer   the time and for each limit what `wire.rs` reads, in one packed string.
--
-- A log is a header and entries in the order of time, each a stamp modulo 2^32 ticks and, in a weighted log,
-- the running sum of costs modulo 2^53 (docs/decisions/0006). A short one is read and written whole; of a long
-- one only parts are read, and an admission only appends. All numbers stay below 2^53, which Lua's doubles
-- hold exactly.
--
-- Every command that reads comes before every command that writes: an error leaves nothing half done. What
-- the default policy does runs straight through the loop of charge.lua; the functions of log.lua and other.lua
-- are made only when they are needed, for making them costs as much as a command.

local call, pack, unpack = redis.call, struct.pack, struct.unpack
local STAMPS = 4294967296
-- Of a log that may be longer only so many bytes are read at first; shorter ones have no dead head.
local FIRST_BYTES = 1024
-- A limit up to here cannot have more than FIRST_BYTES of entries, unless it was lowered.
local SHORT_LIMIT = 240
local HEADER_BYTES = 32
-- Where a long log stands is noted in steps of so many entries.
local CHUNK_ENTRIES = 64
-- No log is full below so many entries.
local SHORTEST_FULL = 40000000

local op = ARGV[1]
local charging = true
local limits = #ARGV - 1
local now_s, now_ns, slack_ms, once_s, once_ns = 0, 0, 0, 0, 0
if op == 'c' then
  local time = call('TIME')
  now_s, now_ns = time[1] + 0, time[2] * 1000
else
  charging = op:byte() == 99
  if #op < 13 then
    local time = call('TIME')
    now_s, now_ns = time[1] + 0, time[2] * 1000
    if #op > 1 then once_s, once_ns = unpack('<I4I4', op, 2) end
  else
    now_s, now_ns, slack_ms = unpack('<I4I4I4', op, 2)
    if #op > 13 then once_s, once_ns = unpack('<I4I4', op, 14) end
  end
end

