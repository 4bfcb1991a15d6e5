-- Decides one check, and keeps what it is charged as a lease (R13).
--
-- KEYS     the keys of the limits, that of the lease, and that of the request id, if there is one.
-- ARGV[1]  the request of the check, as charge.lua reads it.
-- ARGV[2]  packed by `lease_wire.rs`: the time to live and for how long the lease is known after it expires, in ms, and for how
--          long the request id is remembered, in µs.
-- ARGV[3]  what follows the parts of the lease.
-- ARGV[4]  what follows the answer in the value of the request id.
-- Answer   `N` and the answer of decide.lua; if the request id has named a lease before, `O`, the answer of then and what
--          followed it.

local limits = unpack('<I2', request, checks_at)
local ttl_ms, life_ms, once_us = unpack('<ddd', ARGV[2])
local lease_key, once_key = KEYS[limits + 1], KEYS[limits + 2]
-- In the slots, a lease is called by the digest at the end of its key.
local lease = lease_key:sub(-27)
if once_key then
  local first = call('GET', once_key)
  if first then
    if first:sub(1, 4) ~= 'T\4\0\5' or #first < 20 + (41 + TERMS_BYTES) * limits then foreign(once_key) end
    local life_us, first_s, first_ns = unpack('<dI4I4', first, 5)
    if (now_s - first_s) * 1000000 + (now_ns - first_ns) / 1000 < life_us then return 'O' .. first:sub(13) end
  end
end

lease_parts, lease_slots = {}, {}
local taken = 0

-- Everything that a later error would leave behind is deleted then.
write_lease = function(answer)
  local expires_us = now_us + up + ttl_ms * 1000
  local parts = {}
  for i = 1, #lease_parts, 2 do
    parts[#parts + 1] = pack('<I2', lease_parts[i] - 1) .. lease_parts[i + 1]
  end
  for i = 1, #lease_slots do
    parts[#parts + 1] = pack(LEASE_PART, lease_slots[i] - 1, 0, 0, now_s, now_ns, 0, 1)
  end
  local kept_us = expires_us + life_ms * 1000
  local state = pack(LEASE_STATE, LEASE_TAG, 1, 0, 0, 1, ttl_ms, expires_us, kept_us, life_ms, #parts)
  call('SET', lease_key, state .. table.concat(parts) .. ARGV[3], 'PX', string.format('%d', ttl_ms + life_ms + 1 + slack_ms))
  if once_key then
    call('SET', once_key, 'T\4\0\5' .. pack('<d', once_us) .. answer .. ARGV[4], 'PX',
      string.format('%d', ceil(once_us / 1000) + 1 + slack_ms))
  end
  for i = 1, #lease_slots do
    take_slot(KEYS[lease_slots[i]], lease, expires_us)
    taken = i
  end
end

local done, answer = pcall(decide, checks_at, 0)
if done then return answer == 'L' and answer or 'N' .. answer end
for i = 1, taken do redis.pcall('ZREM', KEYS[lease_slots[i]], lease) end
redis.pcall('DEL', lease_key)
if once_key then redis.pcall('DEL', once_key) end
error(answer)
