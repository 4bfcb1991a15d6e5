-- Decides one check, and keeps what it is charged as a lease (R13).
--
-- KEYS     the keys of the limits, that of the lease, and that of the request id, if there is one. Then come the sets of refund.lua.
-- ARGV[1]  the request of the check, as charge.lua reads it.
-- ARGV[2]  packed by `requests.rs`: the time to live and for how long the lease is known after it expires, in ms, for how long
--          the request id is remembered, in µs, and whether the request id decides which lease it is: it does in the first slot,
--          and in the others it counts only if it names this one.
-- ARGV[3]  what follows the parts of the lease.
-- ARGV[4]  what follows the answer in the value of the request id.
-- ARGV[5]  the beginning of what refund.lua keeps of each limit that gives back what expired leases hold.
-- ARGV[6]  the number of these limits, if there are any: see refund_first.lua.
-- Answer   `N` and the answer of decide.lua; if the request id has named a lease before, `O`, the time, the answer of then and
--          what followed it.

local limits = unpack('<I2', request, checks_at)
local ttl_ms, life_ms, once_us, is_first = unpack('<dddB', ARGV[2])
local lease_key, once_key = KEYS[limits + 1], ARGV[4] ~= '' and KEYS[limits + 2]
-- In the slots, a lease is called by the digest at the end of its key.
local lease = lease_key:sub(-DIGEST_LETTERS)
if once_key then
  local first = call('GET', once_key)
  if first then
    if first:sub(1, 4) ~= NAMED_TAG or #first < NAMED_BYTES + 8 + (41 + TERMS_BYTES) * limits then foreign(once_key) end
    local life_us, named, first_s, first_ns = unpack(NAMED_STATE .. 'I4I4', first, 5)
    if (now_s - first_s) * 1000000 + (now_ns - first_ns) / 1000 < life_us and (is_first == 1 or named == lease) then
      return 'O' .. pack('<I4I4', now_s, now_ns) .. first:sub(NAMED_BYTES + 1)
    end
  end
end

lease_parts, lease_slots = {}, {}
local taken = 0
-- What is noted for the time at which the lease expires: the keys of the sets, and the members.
local due_keys, holds = {}, {}

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
  local state = pack(LEASE_STATE, LEASE_TAG, 1, 0, 0, 1, ttl_ms, expires_us, kept_us, life_ms, now_us, #parts)
  call('SET', lease_key, state .. table.concat(parts) .. ARGV[3], 'PX', string.format('%d', ttl_ms + life_ms + 1 + slack_ms))
  if once_key then
    call('SET', once_key, NAMED_TAG .. pack(NAMED_STATE, once_us, lease) .. answer .. ARGV[4], 'PX',
      string.format('%d', ceil(once_us / 1000) + 1 + slack_ms))
  end
  for at = 1, #ARGV[5], HOLD_BYTES do
    local hold = ARGV[5]:sub(at, at + HOLD_BYTES - 1)
    local index = unpack('<I2', hold)
    for i = 1, #lease_parts, 2 do
      if lease_parts[i] == index + 1 then
        due_keys[#due_keys + 1], holds[#holds + 1] = KEYS[index + 1] .. 'x', hold .. lease_key
        add_until(due_keys[#due_keys], holds[#holds], expires_us, life_ms)
      end
    end
  end
  for i = 1, #lease_slots do
    take_slot(KEYS[lease_slots[i]], lease, expires_us)
    taken = i
  end
end

local done, answer = pcall(decide, checks_at, 0)
if done then return answer == 'L' and answer or 'N' .. answer end
for i = 1, taken do redis.pcall('ZREM', KEYS[lease_slots[i]], lease) end
for i = 1, #holds do redis.pcall('ZREM', due_keys[i], holds[i]) end
redis.pcall('DEL', lease_key)
if once_key then redis.pcall('DEL', once_key) end
error(answer)
