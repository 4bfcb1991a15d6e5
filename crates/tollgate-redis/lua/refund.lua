-- Gives back what leases held that have expired (R15), before anything is decided.
--
-- What open leases hold in a limit that gives it back is a sorted set, whose key is that of the limit with `x` appended. The score of
-- a hold is the time in µs at which its lease expires. A hold is a member of HOLD_BYTES (layout.lua) and the key of the lease,
-- whose record has the parts.

-- The change that gives back `part` of a lease, as change.lua reads it.
local function change_of(kind, part, of_s, of_ns)
  local _, number, stamp, at_s, at_ns, used_then, cost = unpack(LEASE_PART, part)
  if kind == 3 or kind == 4 then
    number, stamp = at_s, at_ns
  elseif kind == 5 then
    of_s, of_ns = stamp, 0
    stamp = 0
  end
  return pack('<BdddddI4I4', kind, number, stamp, cost, 0, used_then, of_s, of_ns)
end

-- What changes counters, buckets and calendars at the time at which a lease expired, but not before `key` was written: a check
-- whose policy says otherwise may have come since.
local function tallies_at(key, expired_us)
  local at_s, at_ns = floor(expired_us / 1000000), expired_us % 1000000 * 1000
  local text = call('GETRANGE', key, STATE_FROM, '-1')
  if #text == 42 and unpack('<I4', text) == BUCKET then
    local _, start_s, start_ns, _, _, _, _, since_s, since_ns = unpack(BUCKET_STATE, text)
    local written_s, written_ns = start_s + since_s, start_ns + since_ns
    if written_ns >= 1000000000 then written_s, written_ns = written_s + 1, written_ns - 1000000000 end
    if written_s > at_s or written_s == at_s and written_ns > at_ns then at_s, at_ns = written_s, written_ns end
  end
  local _, _, _, change_then = make_tallies(at_s, at_ns)
  return change_then
end

-- The record at `lease_key`; nil or false if there is none that Tollgate wrote.
local function record_of(lease_key)
  local record = redis.pcall('GET', lease_key)
  if type(record) == 'table' then
    if record.err:find('WRONGTYPE', 1, true) then return nil end
    error({ err = 'TRYAGAIN the lease ' .. lease_key .. ' is not here: ' .. record.err })
  end
  return record and #record >= LEASE_BYTES and unpack('<I4', record) == LEASE_TAG
    and #record >= LEASE_BYTES + unpack('<I2', record, LEASE_BYTES - 1) * PART_BYTES and record
end

-- Gives back one hold in the limit of `key`, whose lease expired at `expired_us`.
local function give_back_hold(key, due_key, hold, expired_us)
  if #hold <= HOLD_BYTES then foreign(due_key) end
  local index, kind, of_s, of_ns = unpack(HOLD, hold)
  local lease_key = hold:sub(HOLD_BYTES + 1)
  local record = record_of(lease_key)
  local changes, kept = {}, {}
  local head
  if record then
    head = { unpack(LEASE_STATE, record) }
    local ending, expires_us, count = head[4], head[7], head[11]
    for i = 1, ending == 0 and expires_us <= now_us and count or 0 do
      local from = LEASE_BYTES + 1 + (i - 1) * PART_BYTES
      local part = record:sub(from, from + PART_BYTES - 1)
      if unpack('<I2', part) == index then
        changes[#changes + 1] = change_of(kind, part, of_s, of_ns)
      else
        kept[#kept + 1] = part
      end
    end
  end
  if #changes == 0 then return call('ZREM', due_key, hold) end
  -- The first is read before anything is written, so that a damaged key changes nothing.
  if kind ~= 1 then change_tally = tallies_at(key, expired_us) end
  local commands = change(key, changes[1], 1)
  call('ZREM', due_key, hold)
  local rest = record:sub(LEASE_BYTES + 1 + head[11] * PART_BYTES)
  -- The number that grows with every change, and how many parts follow.
  head[2], head[11], head[12] = head[2] + 1, #kept, nil
  call('SET', lease_key, pack(LEASE_STATE, spread(head, 1, 11)) .. table.concat(kept) .. rest, 'KEEPTTL')
  for i = 1, #changes do
    if i > 1 then commands = change(key, changes[i], 1) end
    if commands then apply(commands) end
  end
  change_tally = nil
end

-- Gives back every hold of `due_key` whose lease has expired, the one that expired first before the others.
local function give_back(due_key)
  local due = call('ZCOUNT', due_key, '-inf', string.format('%.0f', now_us))
  if due == 0 then return end
  local holds = call('ZRANGE', due_key, 0, due - 1, 'WITHSCORES')
  for i = 1, #holds, 2 do give_back_hold(due_key:sub(1, -2), due_key, holds[i], holds[i + 1] + 0) end
end
